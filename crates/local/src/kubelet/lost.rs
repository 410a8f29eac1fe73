//! The end of a pod whose supervisor is gone.

use k8s_openapi::api::core::v1::{Container, Pod};
use rustix::process::Signal;

use crate::kubelet::processes::ProcessIdentity;
use crate::kubelet::record::{
    ContainerRecord, ContainerState, Health, Outcome, Record, Role, Terminated,
};
use crate::kubelet::status::NODE_SHUTDOWN;

/// Ends what is left of a pod and returns the record of its end: a failure of the system, which `why` explains.
pub(crate) fn end(pod: &Pod, record: Option<&Record>, why: &str, now: &str) -> Record {
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = spec.init_containers.iter().flatten();
    let containers = inits
        .map(|container| (container, Role::Init))
        .chain(
            spec.containers
                .iter()
                .map(|container| (container, Role::Main)),
        )
        .map(|(container, role)| end_container(container, role, record, now))
        .collect();
    let nobody = ProcessIdentity {
        pid: 0,
        start_time: 0,
        boot: String::new(),
    };
    Record {
        supervisor: record.map_or(nobody, |record| record.supervisor.clone()),
        containers,
        outcome: Outcome::Failed(Some((NODE_SHUTDOWN.to_owned(), why.to_owned()))),
    }
}

fn end_container(
    container: &Container,
    role: Role,
    record: Option<&Record>,
    now: &str,
) -> ContainerRecord {
    let known = record.and_then(|record| {
        let mut containers = record.containers.iter();
        containers.find(|known| known.name == container.name)
    });
    let mut ended = known.cloned().unwrap_or_else(|| ContainerRecord {
        name: container.name.clone(),
        role,
        state: ContainerState::Waiting {
            reason: "ContainerCreating".to_owned(),
            message: String::new(),
        },
        last: None,
        restarts: 0,
        health: Health::default(),
    });
    if let ContainerState::Running {
        process,
        started_at,
    } = &ended.state
    {
        process.signal_group(Signal::KILL);
        ended.state = ContainerState::Terminated(Terminated {
            exit_code: 137,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            started_at: started_at.clone(),
            finished_at: now.to_owned(),
        });
    }
    ended
}
