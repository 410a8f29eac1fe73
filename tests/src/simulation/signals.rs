//! Signals in memory: who sets one, and when, says its id.
//!
//! `yes` is set to true, `no` to false, `number` to 7, each two seconds after it was first asked for; any other never is.

use std::{collections::BTreeMap, time::Duration};

use flyte_idl::{
    admin::{
        Signal, SignalGetOrCreateRequest, SignalList, SignalListRequest, SignalSetRequest,
        SignalSetResponse,
    },
    core::{Literal, Primitive, Scalar, literal, primitive, scalar},
    service::signal_service_server::SignalService,
};
use flyte_platform::sync::Mutex;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// How long people think.
const TAKES: Duration = Duration::from_secs(2);

/// When each was first asked for, by id.
#[derive(Debug, Default)]
pub(super) struct Signals(Mutex<BTreeMap<String, Instant>>);

fn value(id: &str) -> Option<primitive::Value> {
    match id {
        "yes" => Some(primitive::Value::Boolean(true)),
        "no" => Some(primitive::Value::Boolean(false)),
        "number" => Some(primitive::Value::Integer(7)),
        _ => None,
    }
}

#[tonic::async_trait]
impl SignalService for Signals {
    async fn get_or_create_signal(
        &self,
        request: Request<SignalGetOrCreateRequest>,
    ) -> Result<Response<Signal>, Status> {
        let SignalGetOrCreateRequest { id, r#type } = request.into_inner();
        let name = id.clone().unwrap_or_default().signal_id;
        let asked = *self
            .0
            .lock()
            .entry(name.clone())
            .or_insert_with(Instant::now);
        let value = value(&name).filter(|_| asked.elapsed() >= TAKES);
        Ok(Response::new(Signal {
            id,
            r#type,
            value: value.map(|value| Literal {
                value: Some(literal::Value::Scalar(Box::new(Scalar {
                    value: Some(scalar::Value::Primitive(Primitive { value: Some(value) })),
                }))),
                ..Literal::default()
            }),
        }))
    }

    async fn list_signals(
        &self,
        _: Request<SignalListRequest>,
    ) -> Result<Response<SignalList>, Status> {
        Err(Status::unimplemented("engines do not list signals"))
    }

    async fn set_signal(
        &self,
        _: Request<SignalSetRequest>,
    ) -> Result<Response<SignalSetResponse>, Status> {
        Err(Status::unimplemented("engines do not set signals"))
    }
}
