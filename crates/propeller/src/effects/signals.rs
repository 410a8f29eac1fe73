//! Signals that gate nodes wait for (spec 04 §7.8).

use flyte_idl::{
    admin::SignalGetOrCreateRequest,
    core::{Literal, LiteralType, SignalIdentifier, execution_error::ErrorKind},
};

use super::{Backend, EffectError, PermanentError, TransientError, WorkflowEffects, error};
use crate::node::NodeView;

impl WorkflowEffects {
    /// The value of a signal of the workflow, made known to its users if it was not; none as long as nobody has set it.
    pub(super) async fn signal(
        &self,
        view: &NodeView<'_>,
        id: String,
        kind: LiteralType,
    ) -> Result<Option<Box<Literal>>, EffectError> {
        let request = SignalGetOrCreateRequest {
            id: Some(SignalIdentifier {
                signal_id: id.clone(),
                execution_id: Some(view.workflow.execution.to_proto()),
            }),
            r#type: Some(kind),
        };
        let mut signals = self.signals.clone();
        let call = Box::pin(signals.get_or_create_signal(request));
        match self.budget.request(Backend::Admin, call).await? {
            Ok(signal) => Ok(signal.into_inner().value.map(Box::new)),
            Err(status) if error::is_refused_for_good(&status) => {
                let message = format!(
                    "flyteadmin does not have signal [{id}] for gate node [{}]: {:?}: {}",
                    view.spec.id,
                    status.code(),
                    status.message()
                );
                let code = "RuntimeExecutionError";
                Err(PermanentError::new(ErrorKind::User, code, message).into())
            }
            Err(status) => Err(TransientError::of_status(&status).into()),
        }
    }
}
