//! Random text for generated names.

/// Letters and digits of generated names: no vowels, so no words.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Random text for names.
pub(crate) fn random_text(length: usize) -> String {
    (0..length)
        .filter_map(|_| NAME_ALPHABET.get(rand::random_range(0..NAME_ALPHABET.len())))
        .map(|byte| char::from(*byte))
        .collect()
}
