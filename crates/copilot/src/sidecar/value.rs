//! From the bytes of a file to a literal of a simple type (spec 05 §17.3).

use flyte_core::{
    excerpt::excerpt,
    literals::{self, LiteralError, MESSAGE_PACK},
};
use flyte_idl::core::{Binary, Literal, LiteralType, SimpleType, literal_type::Type, scalar};
use serde_json::Value;

/// Largest file that is a value, in bytes.
pub const LARGEST: u64 = 1024;

/// Why a file is no value of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Go's text.
    #[error("currently CoPilot uploader does not support [{0}]")]
    Unsupported(String),
    /// A value is not that long.
    #[error("it has {0} bytes, and a value has {LARGEST} at most; declare a file instead")]
    TooLarge(u64),
    /// Text is UTF-8 in protobuf.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It does not read as what it should be.
    #[error(transparent)]
    Literal(#[from] LiteralError),
}

/// How an output of a type is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its file is a value.
    Simple(SimpleType),
    /// Its file or folder is data.
    Blob,
}

/// What is done with an output of this type.
///
/// # Errors
/// [`ValueError::Unsupported`].
pub(super) fn kind(literal_type: &LiteralType) -> Result<Kind, ValueError> {
    match &literal_type.r#type {
        Some(Type::Simple(number)) => SimpleType::try_from(*number)
            .map(Kind::Simple)
            .map_err(|_| ValueError::Unsupported(excerpt(literal_type))),
        Some(Type::Blob(_)) => Ok(Kind::Blob),
        _ => Err(ValueError::Unsupported(excerpt(literal_type))),
    }
}

/// The literal that a file holds. Space, tabs and line ends around it do not count, except in bytes.
///
/// # Errors
/// Those of [`ValueError`].
pub fn literal(simple: SimpleType, file: &[u8]) -> Result<Literal, ValueError> {
    if simple == SimpleType::Binary {
        return Ok(literals::scalar(scalar::Value::Binary(Binary {
            value: file.to_vec(),
            tag: MESSAGE_PACK.to_owned(),
        })));
    }
    let text = std::str::from_utf8(file).map_err(|_| ValueError::NotUtf8)?;
    let text = text.trim_matches([' ', '\n', '\t']);
    // Go refuses a number that is too large; here it would become infinite.
    let is_too_large = simple == SimpleType::Float
        && text.parse::<f64>().is_ok_and(f64::is_infinite)
        && !text.to_ascii_lowercase().contains("inf");
    if is_too_large {
        return Err(LiteralError::Parse {
            value: text.to_owned(),
            simple: simple.as_str_name(),
        }
        .into());
    }
    let literal_type = LiteralType {
        r#type: Some(Type::Simple(simple.into())),
        ..LiteralType::default()
    };
    Ok(literals::of_type(&literal_type, &Value::from(text))?)
}
