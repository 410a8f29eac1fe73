//! Signals (spec 01 §17).

use flyte_core::identifiers::ExecutionId;
use flyte_idl::{admin, core, stored::Stored};
use flyte_platform::metrics::Labels;

use super::pages;
use crate::{
    caller::{Action, Caller},
    context::AdminContext,
    domain::{
        ids::{execution_scope, require_execution},
        signals::require_castable,
    },
    error::{Error, Result},
    filters::SIGNALS,
    records::Signal,
    repository::signals,
    unknown_fields::{Incoming, Reply, UnknownFields, fields},
};

fn require_id(id: Option<&core::SignalIdentifier>) -> Result<(ExecutionId, String)> {
    let id = id.ok_or_else(|| Error::missing("id"))?;
    let execution = id
        .execution_id
        .as_ref()
        .ok_or_else(|| Error::missing("execution_id"))?;
    if id.signal_id.is_empty() {
        return Err(Error::missing("signal_id"));
    }
    Ok((
        ExecutionId::from_proto(Some(execution))?,
        id.signal_id.clone(),
    ))
}

fn answer(signal: Signal) -> Reply<admin::Signal> {
    let of_type = UnknownFields::of_stored(&signal.literal_type);
    let of_value = signal.value.as_ref().map(UnknownFields::of_stored);
    let message = admin::Signal {
        id: Some(core::SignalIdentifier {
            signal_id: signal.signal,
            execution_id: Some(signal.execution.to_proto()),
        }),
        r#type: Some(signal.literal_type.into_inner()),
        value: signal.value.map(Stored::into_inner),
    };
    Reply::from(message)
        .with(fields::SIGNAL_TYPE, of_type)
        .with(fields::SIGNAL_VALUE, of_value.unwrap_or_default())
}

pub(crate) async fn get_or_create(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: request,
        unknown,
    }: Incoming<admin::SignalGetOrCreateRequest>,
) -> Result<Reply<admin::Signal>> {
    let (execution, name) = require_id(request.id.as_ref())?;
    context.allow(caller, Action::Report, execution_scope(&execution))?;
    let literal_type = request.r#type.ok_or_else(|| Error::missing("type"))?;
    let signal = Signal {
        execution,
        signal: name,
        literal_type: unknown.part(fields::CREATE_SIGNAL_TYPE).store(literal_type),
        value: None,
    };
    let now = context.clock.now();
    let stored = context
        .signal_database
        .write((signal.clone(), now), |(signal, now), tx| {
            Box::pin(async move {
                signals::ensure(tx, signal, *now).await?;
                Ok::<_, Error>(signals::get(tx, &signal.execution, &signal.signal).await?)
            })
        })
        .await?;
    match stored {
        Some(stored) if stored.literal_type.get() == signal.literal_type.get() => {
            Ok(answer(stored))
        }
        _ => Err(Error::AlreadyExists(
            "value with matching already exists (duplicate key value violates unique constraint \"signals_pkey\")"
                .to_owned(),
        )),
    }
}

pub(crate) async fn list(
    context: &AdminContext,
    caller: &Caller,
    request: admin::SignalListRequest,
) -> Result<Reply<admin::SignalList>> {
    let execution = require_execution(request.workflow_execution_id.as_ref())?;
    context.allow(caller, Action::Read, execution_scope(&execution))?;
    let page = pages::page!(request, "ListSignals");
    page.require_limit()?;
    let query = page.parse(&SIGNALS, context.clock.now())?;
    let mut tx = context.signal_database.read().await?;
    let list = signals::list(&mut tx, &execution, &query).await?;
    let signals = list.map(answer);
    Ok(pages::reply(
        context,
        &query,
        signals,
        fields::SIGNALS,
        |signals, token| admin::SignalList { signals, token },
    ))
}

pub(crate) async fn set(
    context: &AdminContext,
    caller: &Caller,
    Incoming {
        message: request,
        unknown,
    }: Incoming<admin::SignalSetRequest>,
) -> Result<admin::SignalSetResponse> {
    let (execution, name) = require_id(request.id.as_ref())?;
    context.allow(caller, Action::Execute, execution_scope(&execution))?;
    let value = request.value.ok_or_else(|| Error::missing("value"))?;
    let mut tx = context.signal_database.read().await?;
    let Some(mut signal) = signals::get(&mut tx, &execution, &name).await? else {
        return Err(Error::Invalid(format!(
            "failed to validate that signal [{{{{{} {} {}}} {name}}}] exists, err: [signal does not exist]",
            execution.project, execution.domain, execution.name
        )));
    };
    drop(tx);
    require_castable(signal.literal_type.get(), &value)?;
    signal.value = Some(unknown.part(fields::SET_SIGNAL_VALUE).store(value));
    let now = context.clock.now();
    context
        .signal_database
        .write((signal, now), |(signal, now), tx| {
            Box::pin(async move { Ok::<_, Error>(signals::set_value(tx, signal, *now).await?) })
        })
        .await?;
    context.metrics().signals_set.inc(&Labels {
        project: execution.project.as_str(),
        domain: execution.domain.as_str(),
        workflow: &execution.name,
        ..Labels::default()
    });
    Ok(admin::SignalSetResponse {})
}
