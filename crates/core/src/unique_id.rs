//! Names made from parts: unique node ids, pod names, child executions, shards (spec 04 §8, spec 05 §3).
//!
//! All of them follow one rule: the parts joined by `-`, and where that is too long, `f` and the base32
//! text of an FNV-1a hash of it. Names are deterministic, so that a repeated step meets what it made before.

use crate::names;

/// Longest unique node id in bytes.
pub const NODE_ID_MAX: usize = 20;
/// Longest generated task name in bytes, unless the plugin says otherwise.
pub const GENERATED_NAME_MAX: usize = 50;
/// Number of shard keys of workflow resources.
pub const SHARD_KEYS: u32 = 32;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz123456";

/// Width of the hash that stands for a name that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 8 characters.
    Bits32,
    /// 14 characters.
    Bits64,
    /// 27 characters.
    Bits128,
}

/// Even the hash of a name does not fit. The reference uses the name all the same in some places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("name {name:?} is longer than {max} bytes")]
pub struct TooLong {
    /// The hashed name.
    pub name: String,
    /// The limit in bytes.
    pub max: usize,
}

/// A text of at most `max` bytes as it is, a longer one as `f` + base32 of its hash.
pub fn fixed_length(text: &str, max: usize, width: Width) -> Result<String, TooLong> {
    if text.len() <= max {
        return Ok(text.to_owned());
    }
    let hash = match width {
        Width::Bits32 => base32(&fnv1a_32(text.as_bytes()).to_be_bytes()),
        Width::Bits64 => base32(&fnv1a_64(text.as_bytes()).to_be_bytes()),
        Width::Bits128 => base32(&fnv1a_128(text.as_bytes()).to_be_bytes()),
    };
    let name = format!("f{hash}");
    if name.len() > max {
        Err(TooLong { name, max })
    } else {
        Ok(name)
    }
}

/// Joins parts with `-` and bounds the result. A dash is written only where something precedes it, so
/// leading empty parts leave none and later empty parts leave a trailing or a double one (spec 04 §8.1).
pub fn join(max: usize, parts: &[&str], width: Width) -> Result<String, TooLong> {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push('-');
        }
        text.push_str(part);
    }
    fixed_length(&text, max, width)
}

/// Where a node sits: the unique id and the attempt of the branch, sub-workflow, dynamic or array node around it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Parent {
    /// Unique id of the node around.
    pub unique_id: String,
    /// The attempt of the parent, from 0.
    pub attempt: u32,
}

/// The id of a node in events and names: its own at the top level, else joined with its parent's
/// (spec 04 §8.2). At most 20 bytes.
pub fn node(parent: Option<&Parent>, node_id: &str) -> String {
    let joined = match parent {
        None => join(NODE_ID_MAX, &[node_id], Width::Bits32),
        Some(parent) => join(
            NODE_ID_MAX,
            &[&parent.unique_id, &parent.attempt.to_string(), node_id],
            Width::Bits32,
        ),
    };
    // A 32-bit hash is 8 bytes and always fits.
    joined.unwrap_or_else(|too_long| too_long.name)
}

/// The name of one attempt of a task: execution, unique node id and attempt, at most `max` bytes
/// ([`GENERATED_NAME_MAX`] by default; spec 04 §8.3).
pub fn generated_name(
    execution: &str,
    unique_node_id: &str,
    attempt: u32,
    max: usize,
) -> Result<String, TooLong> {
    join(
        max,
        &[execution, unique_node_id, &attempt.to_string()],
        Width::Bits32,
    )
}

/// A generated name of at least `min` bytes (padded with `0` on the right) and at most `max` (hashed).
pub fn bounded_name(name: &str, min: usize, max: usize) -> Result<String, TooLong> {
    if name.len() < min {
        Ok(format!("{name:0<min$}"))
    } else {
        fixed_length(name, max, Width::Bits32)
    }
}

/// The name of the execution that a launch plan node starts (spec 04 §7.5): 64-bit hashes since
/// definition version 1, 32-bit ones before.
pub fn child_execution(
    execution: &str,
    unique_node_id: &str,
    attempt: u32,
    definition_version: u32,
) -> String {
    let width = if definition_version == 0 {
        Width::Bits32
    } else {
        Width::Bits64
    };
    join(
        NODE_ID_MAX,
        &[execution, unique_node_id, &attempt.to_string()],
        width,
    )
    .unwrap_or_else(|too_long| too_long.name)
}

/// The shard key of a workflow resource, 0 to 31: FNV-1a-32 of the value of its `execution-id` label.
pub fn shard_key(execution_label: &str) -> u32 {
    fnv1a_32(execution_label.as_bytes()) % SHARD_KEYS
}

/// The two characters below which the raw outputs of a generated name lie (spec 04 §9.3).
pub fn raw_output_shard(generated_name: &str) -> String {
    let index = fnv1a_32(generated_name.as_bytes()) % (36 * 36);
    [index / 36, index % 36]
        .into_iter()
        .filter_map(|digit| {
            // Letters come first, unlike in base 36.
            char::from_digit((digit + 10) % 36, 36)
        })
        .collect()
}

/// A name that Kubernetes accepts for an object: itself where it does, else kebab case without the
/// characters that it refuses, at most 253 bytes (spec 05 §3.4).
pub fn object_name(name: &str) -> String {
    if names::is_rfc1123_subdomain(name) {
        return name.to_owned();
    }
    let mut kebab = String::with_capacity(name.len());
    let mut before = None;
    for character in name.chars() {
        if character.is_ascii_uppercase()
            && before
                .is_some_and(|before: char| before.is_ascii_lowercase() || before.is_ascii_digit())
        {
            kebab.push('-');
        }
        before = Some(character);
        let lower = character.to_ascii_lowercase();
        if lower.is_ascii_lowercase() || lower.is_ascii_digit() || matches!(lower, '-' | '.') {
            kebab.push(lower);
        }
    }
    let clean = kebab.trim_matches(['.', '-']);
    if clean.len() <= names::SUBDOMAIN_MAX {
        return clean.to_owned();
    }
    let hash =
        fixed_length(clean, NODE_ID_MAX, Width::Bits32).unwrap_or_else(|too_long| too_long.name);
    let head: String = clean
        .chars()
        .take(names::SUBDOMAIN_MAX - NODE_ID_MAX - 1)
        .collect();
    format!("{head}-{hash}")
}

/// Base32 in the alphabet `a…z1…6`, without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push_digit(&mut text, buffer >> bits);
            buffer &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        push_digit(&mut text, buffer << (5 - bits));
    }
    text
}

fn push_digit(text: &mut String, value: u32) {
    let index = usize::try_from(value & 31).unwrap_or_default();
    if let Some(digit) = ALPHABET.get(index) {
        text.push(char::from(*digit));
    }
}

/// Reads what [`base32`] wrote; `None` when a character is not of the alphabet or the length is impossible.
pub fn base32_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for digit in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        buffer = (buffer << 5) | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits).ok()?);
            buffer &= (1 << bits) - 1;
        }
    }
    (bits < 5).then_some(bytes)
}

/// FNV-1a, 32 bits.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// FNV-1a, 64 bits.
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// FNV-1 (multiply, then xor), 64 bits, which schedule names and times use (spec 06 C5).
pub fn fnv1_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
    })
}

/// FNV-1a, 128 bits.
pub fn fnv1a_128(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_become_hashes() {
        let xyz = [
            "x", "y", "z", "m", "n", "y", "z", "m", "n", "y", "z", "m", "n",
        ];
        let longer = [&xyz[..], &["z", "m", "n", "y", "z", "m", "n"]].concat();
        for (max, parts, width, expected) in [
            (
                20,
                &["xxxxxxxxxxxxxxxxxxxxxxxx"][..],
                Width::Bits32,
                "fuaa3aji",
            ),
            (10, &["x", "y", "z"], Width::Bits32, "x-y-z"),
            (15, &xyz, Width::Bits32, "fe63sz6y"),
            (15, &xyz, Width::Bits64, "fwp4bky2kucex5"),
            (30, &longer, Width::Bits128, "fbmesl15enghpjepzjm5cp1zfqe"),
            (8, &["name", "n1", "1"], Width::Bits32, "fpmmhh6q"),
            (8, &["name", "n1", "0"], Width::Bits32, "fpqmhlei"),
            (20, &["", "", "id"], Width::Bits32, "id"),
        ] {
            assert_eq!(
                join(max, parts, width).as_deref(),
                Ok(expected),
                "{parts:?}"
            );
        }
        assert_eq!(
            fixed_length("xx", 1, Width::Bits32).unwrap_err().name,
            "flfryc2i"
        );
    }

    #[test]
    fn nodes_carry_their_parent() {
        let parent = |unique_id: &str, attempt| Parent {
            unique_id: unique_id.into(),
            attempt,
        };
        for (parent, id, expected) in [
            (None, "n0", "n0"),
            (None, "a-very-long-node-id-name-xyz", "f6oia2ly"),
            (Some(parent("u1", 2)), "n1", "u1-2-n1"),
            (
                Some(parent("u1111111111323131231asdadasd", 2)),
                "n1",
                "fraibbty",
            ),
            (
                Some(parent("n0-0-n1", 0)),
                "start-node",
                "n0-0-n1-0-start-node",
            ),
            (Some(parent("n0-0-n0-n0", 0)), "n0-n0-n0", "falhbjca"),
        ] {
            assert_eq!(node(parent.as_ref(), id), expected);
        }
    }

    #[test]
    fn child_executions_and_shards_are_those_of_the_reference() {
        assert_eq!(
            child_execution("first-name-is-pretty-large", "hello-world", 1, 0),
            "fav2uxxi"
        );
        assert_eq!(
            child_execution("first-name-is-pretty-large", "hello-world", 1, 1),
            "fn1unxl53avgd1"
        );
        for (text, shard) in [
            ("wf_1", 4),
            ("hello", 11),
            ("f1a2b3c4d5e6f7a8b9c0", 23),
            ("", 5),
            ("my-exec", 7),
        ] {
            assert_eq!(shard_key(text), shard);
        }
        for (name, shard) in [
            ("f6a9b8c7d6e5f4a3b2c1-n0-0", "6x"),
            ("my-exec", "o5"),
            ("f1a2b3c4d5e6f7a8b9c0-n0-0", "xz"),
            ("rec-branches-falhbjca-0", "7t"),
        ] {
            assert_eq!(raw_output_shard(name), shard);
        }
    }

    #[test]
    fn object_names_are_made_fit_for_kubernetes() {
        let digits = "0123456789".repeat(28);
        for (name, expected) in [
            (
                "orgflyteexamplesHelloWorldTask-0",
                "orgflyteexamples-hello-world-task-0".to_owned(),
            ),
            (
                "---..t7vyqhzjJcI==u1-HelloWorldTask[].-.-.",
                "t7vyqhzj-jc-iu1-hello-world-task".to_owned(),
            ),
            (&digits, format!("{}-fbbrvh4i", &digits[..232])),
        ] {
            assert_eq!(object_name(name), expected);
        }
        assert_eq!(bounded_name("exec", 10, 20).as_deref(), Ok("exec000000"));
    }

    #[test]
    fn other_hashes_match_their_vectors() {
        assert_eq!(fnv1_64(b"project:domain:name"), 16_301_494_360_130_577_061);
        assert_eq!(fnv1a_64(b"e1"), 616_565_472_031_783_043);
        assert_eq!(base32(b"key: \"my_key\"\n"), "nnsxsoraejwxsx2lmv3secq");
        assert_eq!(
            base32_decode("nnsxsoraejwxsx2lmv3secq").as_deref(),
            Some(&b"key: \"my_key\"\n"[..])
        );
        assert_eq!(base32_decode("0"), None);
    }
}
