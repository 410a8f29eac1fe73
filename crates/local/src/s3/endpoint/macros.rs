//! Members that inputs and outputs of several operations share, without sharing a type.

/// What a request says about the object that it makes. The inputs share members, not a type.
macro_rules! attributes_of {
    ($input:expr) => {
        Attributes {
            content_type: $input.content_type.take(),
            content_encoding: own_encoding($input.content_encoding.take()),
            content_disposition: $input.content_disposition.take(),
            content_language: $input.content_language.take(),
            cache_control: $input.cache_control.take(),
            metadata: metadata($input.metadata.take()),
        }
    };
}

/// An output with the checksums of an object, if they are `$included`.
macro_rules! with_checksums {
    ($output:ident, $info:expr, $included:expr, { $($member:tt)* }) => {{
        let checksum = |name: &str| $info.checksums.get(name).filter(|_| $included).cloned();
        $output {
            checksum_crc32: checksum("crc32"),
            checksum_crc32c: checksum("crc32c"),
            checksum_crc64nvme: checksum("crc64nvme"),
            checksum_sha1: checksum("sha1"),
            checksum_sha256: checksum("sha256"),
            $($member)*
            ..$output::default()
        }
    }};
}

/// An output that describes an object.
macro_rules! described {
    ($output:ident, $info:expr, $included:expr, { $($member:tt)* }) => {{
        let attributes = $info.attributes.clone();
        with_checksums!($output, $info, $included, {
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(etag($info)),
            last_modified: Some(time($info.modified)),
            content_type: attributes
                .content_type
                .or_else(|| Some("binary/octet-stream".to_owned())),
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            metadata: Some(attributes.metadata.into_iter().collect()),
            $($member)*
        })
    }};
}
