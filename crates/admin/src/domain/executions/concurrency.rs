//! The concurrency policy of a launch plan (spec 01 §10.4).

use flyte_idl::admin::{ConcurrencyLimitBehavior, ConcurrencyPolicy};

use crate::error::{Error, Result};

/// Checks that one more execution of the launch plan called `name` may begin while `active` are under way.
///
/// # Errors
/// [`Error::LimitReached`] when the policy says to skip; INTERNAL for a behaviour that is not known.
pub(crate) fn require_room(policy: ConcurrencyPolicy, active: i64, name: &str) -> Result<()> {
    if policy.max <= 0 || active < i64::from(policy.max) {
        return Ok(());
    }
    match ConcurrencyLimitBehavior::try_from(policy.behavior) {
        Ok(ConcurrencyLimitBehavior::Skip) => Err(Error::LimitReached {
            max: policy.max,
            launch_plan: name.to_owned(),
        }),
        Ok(ConcurrencyLimitBehavior::Unspecified) => Ok(()),
        Err(_unknown) => Err(Error::Internal(format!(
            "unsupported concurrency limit behavior {}",
            policy.behavior
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_plan_is_skipped_only_when_its_limit_is_reached() {
        let (skip, unspecified) = (
            ConcurrencyLimitBehavior::Skip as i32,
            ConcurrencyLimitBehavior::Unspecified as i32,
        );
        for (case, max, behavior, active, expected) in [
            ("no limit", 0, skip, 9, "room"),
            ("below the limit", 2, skip, 1, "room"),
            ("at the limit", 2, skip, 2, "full"),
            ("above the limit", 2, skip, 3, "full"),
            ("nobody said what to do", 2, unspecified, 3, "room"),
            ("of a newer version", 2, 7, 3, "unsupported"),
        ] {
            let verdict = match require_room(ConcurrencyPolicy { max, behavior }, active, "plan") {
                Ok(()) => "room",
                Err(Error::LimitReached { .. }) => "full",
                Err(_other) => "unsupported",
            };
            assert_eq!(verdict, expected, "{case}");
        }
    }
}
