//! The growth of followed logs: one inotify instance for all of them, there while any log is followed.
//!
//! Whoever waits for growth of its own log reads what the kernel reports about all, and wakes the others: no task runs for
//! it. While nothing is followed there is no instance, because a user has some hundred of them, and editors want them too.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use flyte_platform::sync::Mutex;
use rustix::fs::inotify::WatchFlags;
use tokio::sync::Notify;

use crate::inotify::Inotify;

/// Gives watches on logs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogWatches(Arc<Mutex<Weak<Instance>>>);

/// The instance and who waits for which of its watches.
#[derive(Debug)]
struct Instance {
    inotify: Inotify,
    waiting: Mutex<HashMap<i32, Vec<Arc<Notify>>>>,
}

/// How one follower learns that its log has grown.
#[derive(Debug)]
pub(crate) enum Growth {
    /// By a watch.
    Watched(Watch),
    /// The kernel gives no more watches or instances: after a while it may have grown.
    Polled,
}

/// The watch of one follower.
#[derive(Debug)]
pub(crate) struct Watch {
    instance: Arc<Instance>,
    descriptor: i32,
    grown: Arc<Notify>,
}

impl LogWatches {
    /// Watches a log. What is written from now on makes [`Growth::next`] return.
    pub(crate) fn watch(&self, log: &Path) -> Growth {
        match self.try_watch(log) {
            Ok(watch) => Growth::Watched(watch),
            Err(error) => {
                tracing::debug!(%error, "a log cannot be watched and is polled");
                Growth::Polled
            }
        }
    }

    fn try_watch(&self, log: &Path) -> io::Result<Watch> {
        let instance = {
            let mut known = self.0.lock();
            match known.upgrade() {
                Some(instance) => instance,
                None => {
                    let instance = Arc::new(Instance {
                        inotify: Inotify::open()?,
                        waiting: Mutex::new(HashMap::new()),
                    });
                    *known = Arc::downgrade(&instance);
                    instance
                }
            }
        };
        let grown = Arc::new(Notify::new());
        // Held over the call, so that a follower that goes does not remove the watch that this one gets.
        let mut waiting = instance.waiting();
        let descriptor = instance.inotify.watch(log, WatchFlags::MODIFY)?;
        waiting.entry(descriptor).or_default().push(grown.clone());
        drop(waiting);
        Ok(Watch {
            instance,
            descriptor,
            grown,
        })
    }
}

impl Instance {
    fn waiting(&self) -> MutexGuard<'_, HashMap<i32, Vec<Arc<Notify>>>> {
        self.waiting.lock()
    }

    /// Waits for changes of any log and wakes those who follow it.
    async fn dispatch(&self) -> io::Result<()> {
        let changes = self.inotify.changes().await?;
        let waiting = self.waiting();
        let affected = waiting
            .iter()
            .filter(|(watch, _)| changes.overflow || changes.watches.contains(watch));
        for grown in affected.flat_map(|(_, followers)| followers) {
            grown.notify_one();
        }
        Ok(())
    }
}

impl Growth {
    /// Waits until the log may have grown since the last call.
    pub(crate) async fn next(&self) -> io::Result<()> {
        const POLL_INTERVAL: Duration = Duration::from_millis(200);
        let watch = match self {
            Self::Watched(watch) => watch,
            Self::Polled => {
                tokio::time::sleep(POLL_INTERVAL).await;
                return Ok(());
            }
        };
        loop {
            tokio::select! {
                biased;
                () = watch.grown.notified() => return Ok(()),
                dispatched = watch.instance.dispatch() => dispatched?,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.instance.waiting();
        let Some(followers) = waiting.get_mut(&self.descriptor) else {
            return;
        };
        followers.retain(|grown| !Arc::ptr_eq(grown, &self.grown));
        if followers.is_empty() {
            waiting.remove(&self.descriptor);
            self.instance.inotify.forget(self.descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn all_followers_share_one_instance_and_hear_of_their_own_log() {
        let folder = tempfile::tempdir().unwrap();
        let logs: Vec<_> = (0..40)
            .map(|index| folder.path().join(index.to_string()))
            .collect();
        let watches = LogWatches::default();
        let mut followers = Vec::new();
        for log in &logs {
            fs::write(log, "").unwrap();
            // Two follow each log.
            followers.push([watches.watch(log), watches.watch(log)]);
        }
        let instance = |growth: &Growth| match growth {
            Growth::Watched(watch) => watch.instance.clone(),
            Growth::Polled => panic!("this machine gives no inotify instance"),
        };
        let first = instance(&followers[0][0]);
        for growth in followers.iter().flatten() {
            assert!(Arc::ptr_eq(&first, &instance(growth)));
        }
        assert_eq!(first.waiting().len(), logs.len());
        let patience = Duration::from_secs(10);
        for (log, pair) in logs.iter().zip(&followers) {
            let mut file = fs::File::options().append(true).open(log).unwrap();
            file.write_all(b"line\n").unwrap();
            for growth in pair {
                tokio::time::timeout(patience, growth.next())
                    .await
                    .unwrap()
                    .unwrap();
            }
        }
        // Nobody else wrote.
        let quiet = futures::future::select_all(
            followers
                .iter()
                .flatten()
                .map(|growth| Box::pin(growth.next())),
        );
        assert!(
            tokio::time::timeout(Duration::from_millis(50), quiet)
                .await
                .is_err()
        );
        // One of two that goes leaves the watch to the other; the last takes the instance with it.
        let [one, other] = followers.remove(0);
        drop(one);
        fs::write(&logs[0], "more").unwrap();
        tokio::time::timeout(patience, other.next())
            .await
            .unwrap()
            .unwrap();
        drop((other, followers));
        assert!(first.waiting().is_empty());
        drop(first);
        assert!(watches.0.lock().upgrade().is_none());
    }
}
