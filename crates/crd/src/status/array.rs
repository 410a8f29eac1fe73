//! State of an array node: one packed number per element (spec 04 §12.4).

use flyte_idl::core::ExecutionError;
use serde::{Deserialize, Serialize};

use super::ArrayPhase;
use crate::{
    GoStruct,
    go_json::{is_default, null_is_default},
};

/// State of an array node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArrayNodeStatus {
    /// How far it got.
    #[serde(skip_serializing_if = "is_default")]
    pub phase: ArrayPhase,
    /// Why it is failing.
    #[serde(rename = "executionError", skip_serializing_if = "Option::is_none")]
    pub execution_error: Option<GoStruct<ExecutionError>>,
    /// Node phase of each element.
    pub subphase: CompactArray,
    /// Task phase of each element.
    pub subtphase: CompactArray,
    /// Attempts of each element.
    pub subattempts: CompactArray,
    /// System failures of each element.
    pub subsysfailures: CompactArray,
    /// Seconds from the array's start to the element's.
    pub subtimestamps: CompactArray,
    /// Version of the next task event.
    #[serde(rename = "taskPhaseVersion", skip_serializing_if = "is_default")]
    pub task_phase_version: u32,
}

/// Equally wide numbers packed into 32-bit words, most significant bit at the lowest position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompactArray {
    #[serde(rename = "BitSet")]
    words: Option<Vec<u32>>,
    #[serde(rename = "item", skip_serializing_if = "is_default")]
    bits: u32,
    #[serde(
        rename = "count",
        deserialize_with = "null_is_default",
        skip_serializing_if = "is_default"
    )]
    count: u32,
}

impl CompactArray {
    /// `count` zeros, each able to grow to `max`.
    pub fn new(count: u32, max: u32) -> Self {
        let bits = 32 - max.leading_zeros();
        let words = (u64::from(count) * u64::from(bits)).div_ceil(32);
        Self {
            words: Some(vec![0; usize::try_from(words).unwrap_or(usize::MAX)]),
            bits,
            count,
        }
    }

    /// How many numbers there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number at `index`; 0 beyond the end.
    pub fn get(&self, index: u32) -> u32 {
        (0..self.bits).fold(0, |value, bit| {
            let (word, mask) = self.place(index, bit);
            let set = self
                .words
                .as_ref()
                .and_then(|words| words.get(word))
                .is_some_and(|word| word & mask != 0);
            (value << 1) | u32::from(set)
        })
    }

    /// Sets the number at `index`. A value too large for its bits is kept at the largest that fits: the counters
    /// stored here only ever bound something.
    pub fn set(&mut self, index: u32, value: u32) {
        if index >= self.count {
            return;
        }
        let largest = 1_u64
            .checked_shl(self.bits)
            .map_or(u64::MAX, |limit| limit - 1);
        let value = u64::from(value).min(largest);
        for bit in 0..self.bits {
            let (word, mask) = self.place(index, bit);
            let words = self.words.get_or_insert_default();
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            if let Some(word) = words.get_mut(word) {
                if value >> (self.bits - 1 - bit) & 1 == 1 {
                    *word |= mask;
                } else {
                    *word &= !mask;
                }
            }
        }
    }

    fn place(&self, index: u32, bit: u32) -> (usize, u32) {
        let position = u64::from(index) * u64::from(self.bits) + u64::from(bit);
        (
            usize::try_from(position / 32).unwrap_or(usize::MAX),
            1 << (position % 32),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_packed_as_go_packs_them() {
        // spec 04 §12.4: items 0=5, 1=2, 2=12, 9=1 of 4 bits.
        let mut array = CompactArray::new(10, 12);
        for (index, value) in [(0, 5), (1, 2), (2, 12), (9, 1)] {
            array.set(index, value);
        }
        let text = serde_json::to_string(&array).unwrap();
        assert_eq!(text, r#"{"BitSet":[842,128],"item":4,"count":10}"#);
        let go: CompactArray =
            serde_json::from_str(r#"{"BitSet":[842,128,0],"item":4,"count":10}"#).unwrap();
        assert_eq!(
            (0..10).map(|index| go.get(index)).collect::<Vec<_>>(),
            [5, 2, 12, 0, 0, 0, 0, 0, 0, 1]
        );
    }

    #[test]
    fn a_number_too_large_stays_at_the_largest_that_fits() {
        let mut array = CompactArray::new(2, 3);
        array.set(1, 100);
        assert_eq!((array.get(0), array.get(1)), (0, 3));
    }
}
