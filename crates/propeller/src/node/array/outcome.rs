//! When an array has succeeded or failed, and what its failure is called (spec 04 §7.7). Pure.

use std::collections::BTreeMap;

use flyte_crd::ArraySpec;

/// A summary of failures is cut at this many bytes.
const MAX_SUMMARY_BYTES: usize = 102_400;
/// What stands for the rest of a summary that was cut.
const MANY_MORE: &str = "... and many more.";
/// Products of a ratio are rounded to this part of one before they are rounded up, because a ratio of 32 bits is not
/// what was written: 0.8 of 5 is 4.
const RATIO_PRECISION: f64 = 1e6;

/// Where an array stands by the ends of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    UnderWay,
    Succeeded,
    Failed,
}

/// How many elements have to succeed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a number of 32 bits, cut to what there can be"
)]
pub(super) fn required(spec: &ArraySpec, size: u32) -> u32 {
    match (spec.min_successes, spec.min_success_ratio) {
        (Some(count), _) => count,
        (None, Some(ratio)) => {
            let share = f64::from(ratio) * f64::from(size);
            let share = (share * RATIO_PRECISION).round() / RATIO_PRECISION;
            share.ceil().clamp(0.0, f64::from(u32::MAX)) as u32
        }
        (None, None) => size,
    }
}

/// Where an array of `size` elements stands of which so many must succeed.
pub(super) fn outcome(size: u32, required: u32, succeeded: u32, failed: u32) -> Outcome {
    if size > 0 && size.saturating_sub(failed) < required {
        Outcome::Failed
    } else if succeeded.saturating_add(failed) >= size {
        Outcome::Succeeded
    } else {
        Outcome::UnderWay
    }
}

/// Why elements failed: each message once, with the elements that it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    indices: BTreeMap<String, Vec<u32>>,
    count: u32,
    bytes: usize,
    is_cut: bool,
}

impl Failures {
    /// An element has failed because of this.
    pub fn add(&mut self, index: u32, message: &str) {
        self.count += 1;
        if let Some(indices) = self.indices.get_mut(message) {
            indices.push(index);
        } else if self.bytes > MAX_SUMMARY_BYTES {
            self.is_cut = true;
        } else {
            self.bytes += message.len();
            self.indices.insert(message.to_owned(), vec![index]);
        }
    }

    /// How many were added.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A line for each message, in the order of the messages: `[0-1][3]: message`; none when none has failed.
    pub fn summary(&self) -> Option<String> {
        if self.indices.is_empty() {
            return None;
        }
        let mut text = String::new();
        let mut is_cut = self.is_cut;
        for (message, indices) in &self.indices {
            let line = format!("{}: {message}\n", ranges(indices));
            if text.len() + line.len() > MAX_SUMMARY_BYTES {
                let room = MAX_SUMMARY_BYTES - text.len();
                text.push_str(
                    line.get(..line.floor_char_boundary(room))
                        .unwrap_or_default(),
                );
                is_cut = true;
                break;
            }
            text.push_str(&line);
        }
        if is_cut {
            text.push_str(MANY_MORE);
        }
        Some(text)
    }
}

/// `[0-1][3]` of 0, 1 and 3.
fn ranges(indices: &[u32]) -> String {
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    let mut rest = sorted.into_iter().peekable();
    let mut ranges = Vec::new();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|next| *next == last.saturating_add(1)) {
            last = next;
        }
        ranges.push(if first == last {
            format!("[{first}]")
        } else {
            format!("[{first}-{last}]")
        });
    }
    ranges.concat()
}

#[cfg(test)]
mod tests {
    use flyte_crd::NodeSpec;

    use super::*;

    fn spec(min_successes: Option<u32>, min_success_ratio: Option<f32>) -> ArraySpec {
        ArraySpec {
            sub_node_spec: NodeSpec::default(),
            parallelism: None,
            min_successes,
            min_success_ratio,
            bound_inputs: None,
        }
    }

    #[test]
    fn an_array_ends_as_its_elements_let_it() {
        use Outcome::{Failed, Succeeded, UnderWay};
        for (case, criteria, size, (succeeded, failed), expected) in [
            ("none has begun", (None, None), 3, (0, 0), UnderWay),
            ("all", (None, None), 3, (3, 0), Succeeded),
            ("one fails of all", (None, None), 3, (1, 1), Failed),
            ("none there are", (None, None), 0, (0, 0), Succeeded),
            (
                "none there are of two",
                (Some(2), None),
                0,
                (0, 0),
                Succeeded,
            ),
            ("enough, and one runs", (Some(1), None), 3, (1, 1), UnderWay),
            (
                "enough, and none runs",
                (Some(1), None),
                3,
                (1, 2),
                Succeeded,
            ),
            ("none of one", (Some(1), None), 3, (0, 3), Failed),
            ("more than there are", (Some(4), None), 3, (0, 0), Failed),
            (
                "four of five at 0.8",
                (None, Some(0.8)),
                5,
                (4, 1),
                Succeeded,
            ),
            ("three of five at 0.8", (None, Some(0.8)), 5, (3, 2), Failed),
            (
                "three of four at 0.75",
                (None, Some(0.75)),
                4,
                (3, 1),
                Succeeded,
            ),
            ("a part of one", (None, Some(0.1)), 3, (0, 3), Failed),
            ("no share", (None, Some(0.0)), 3, (0, 3), Succeeded),
        ] {
            let required = required(&spec(criteria.0, criteria.1), size);
            assert_eq!(
                outcome(size, required, succeeded, failed),
                expected,
                "{case}"
            );
        }
    }

    #[test]
    fn failures_are_told_once_with_all_whose_they_are() {
        let mut failures = Failures::default();
        assert_eq!(failures.summary(), None);
        for (index, message) in [(3, "b"), (1, "b"), (0, "b"), (2, "a"), (7, "b")] {
            failures.add(index, message);
        }
        let expected = "[2]: a\n[0-1][3][7]: b\n";
        assert_eq!(failures.summary().as_deref(), Some(expected));
        for index in 10..20_000 {
            failures.add(index, &format!("m{index:0>100}"));
        }
        let summary = failures.summary().unwrap();
        assert!(summary.len() <= MAX_SUMMARY_BYTES + MANY_MORE.len());
        assert!(summary.ends_with(MANY_MORE));
    }
}
