//! Plugins are asked in such a way that one that panics fails the attempt in question, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flyte_idl::core::execution_error::ErrorKind;
use flyte_plugins::{PhaseInfo, Plugin};

/// Code of attempts whose plugin panicked. Not in Go, where it is a failed round (spec 04 §3.4).
pub(crate) const PANICKED: &str = "PluginPanicked";

/// What the plugin answers, or the failure of the attempt that it panicked about: the system's, so that as many attempts
/// follow as for a lost node.
pub(crate) fn guarded<T>(plugin: Plugin, ask: impl FnOnce() -> T) -> Result<T, Box<PhaseInfo>> {
    // What was asked about is read only, and the answer is not there.
    catch_unwind(AssertUnwindSafe(ask)).map_err(|_panic| {
        tracing::error!(plugin = plugin.id(), "a plugin panicked");
        let message = format!(
            "plugin [{}] panicked, which is a mistake in flytepropeller; its log tells where",
            plugin.id()
        );
        Box::new(PhaseInfo::retryable(ErrorKind::System, PANICKED, message).cleaned_up())
    })
}

#[cfg(test)]
mod tests {
    use flyte_crd::status::TaskPhase;

    use super::*;

    #[test]
    fn a_panic_is_a_failure_of_the_system_that_leaves_no_pod() {
        assert_eq!(guarded(Plugin::Container, || 7), Ok(7));
        let info = guarded(Plugin::Sidecar, || panic!("a test")).unwrap_err();
        let error = info.error.unwrap();
        assert_eq!(info.phase, TaskPhase::RetryableFailure);
        assert_eq!(
            (error.kind(), error.code.as_str()),
            (ErrorKind::System, PANICKED)
        );
        assert!(error.message.contains("[sidecar]"), "{}", error.message);
        assert!(info.clean_up);
    }
}
