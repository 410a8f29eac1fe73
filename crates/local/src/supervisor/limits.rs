//! Memory limits of containers where no cgroup enforces them: who is measured when, and killed (see [`memory`] for the
//! measuring).

use tokio::time::Instant;

use crate::kubelet::processes;
use crate::kubelet::record::ContainerState;
use crate::supervisor::{Supervisor, memory};

impl Supervisor {
    /// The containers that run under a limit: index, pid and limit.
    pub(super) fn limited(&self) -> impl Iterator<Item = (usize, i32, u64)> {
        let containers = self.record.containers.iter().zip(&self.launch.containers);
        containers
            .enumerate()
            .filter_map(|(index, (record, launch))| match &record.state {
                ContainerState::Running { process, .. } => {
                    Some((index, process.pid, launch.memory_limit?))
                }
                _ => None,
            })
    }

    /// Kills containers that hold more memory than their limit.
    pub(super) fn enforce_memory_limits(&mut self) {
        let now = Instant::now();
        self.read_memory_at = now + memory::INTERVAL;
        let limited: Vec<(usize, i32, u64)> = self.limited().collect();
        if self.find_members_at <= now {
            self.find_members_at = now + memory::MEMBERS_INTERVAL;
            self.find_members(&limited);
        }
        for (index, _, limit) in limited {
            let Some(meter) = self.meters.get_mut(index) else {
                continue;
            };
            let Some(held) = meter.beyond(limit, now) else {
                continue;
            };
            // Found anew: a pid may be another's by now.
            self.find_members(&self.limited().collect::<Vec<_>>());
            if let Some(meter) = self.meters.get(index) {
                processes::kill(&meter.members);
            }
            if let Some(over) = self.over_limit.get_mut(index) {
                *over = Some(format!(
                    "the container held {} of memory, its limit is {}",
                    memory::text(held),
                    memory::text(limit)
                ));
            }
        }
    }

    /// Finds the processes of containers.
    fn find_members(&mut self, limited: &[(usize, i32, u64)]) {
        let running = self
            .record
            .containers
            .iter()
            .filter(|container| matches!(container.state, ContainerState::Running { .. }));
        let own = (running.count() == 1).then_some(self.record.supervisor.pid);
        let processes = processes::running();
        for (index, pid, _) in limited {
            if let Some(meter) = self.meters.get_mut(*index) {
                meter.members = memory::of_container(&processes, *pid, own);
            }
        }
    }
}
