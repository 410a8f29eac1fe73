//! ClosureCache of workflows that were launched lately.
//!
//! A registered closure never changes, and every launch needs it: without this, each one reads it from the blob
//! store and decodes it. What was used longest ago goes first.

use std::{collections::HashMap, sync::Arc};

use flyte_idl::admin::WorkflowClosure;
use flyte_platform::sync::Mutex;

/// Encoded bytes of what is kept; decoded it takes a few times as much. Some thousand ordinary workflows, or
/// a handful of the largest.
const MOST_BYTES: usize = 32 << 20;

/// Where a closure is, and the digest of what must be there.
pub(crate) type Key = (String, Vec<u8>);

/// The closures that were used last, [`MOST_BYTES`] of them at most.
#[derive(Default)]
pub(crate) struct ClosureCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    entries: HashMap<Key, Entry>,
    bytes: usize,
    /// Look-ups so far; the entry whose last one is the longest ago goes first.
    clock: u64,
}

struct Entry {
    closure: Arc<WorkflowClosure>,
    bytes: usize,
    used: u64,
}

impl ClosureCache {
    /// The closure, if it is here.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<WorkflowClosure>> {
        let mut cached = self.0.lock();
        cached.clock += 1;
        let now = cached.clock;
        let entry = cached.entries.get_mut(key)?;
        entry.used = now;
        Some(entry.closure.clone())
    }

    /// Keeps a closure of `bytes` when encoded, unless it is larger than the whole cache.
    pub(crate) fn put(&self, key: Key, closure: Arc<WorkflowClosure>, bytes: usize) {
        self.put_within(MOST_BYTES, key, closure, bytes);
    }

    fn put_within(&self, most: usize, key: Key, closure: Arc<WorkflowClosure>, bytes: usize) {
        if bytes > most {
            return;
        }
        let mut cached = self.0.lock();
        cached.clock += 1;
        let entry = Entry {
            closure,
            bytes,
            used: cached.clock,
        };
        cached.bytes += bytes;
        if let Some(before) = cached.entries.insert(key, entry) {
            cached.bytes -= before.bytes;
        }
        while cached.bytes > most {
            let oldest = cached.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            if let Some(gone) = cached.entries.remove(&oldest) {
                cached.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (name.to_owned(), Vec::new())
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let closures = ClosureCache::default();
        let put = |name, bytes| {
            closures.put_within(10, key(name), Arc::default(), bytes);
        };
        put("a", 4);
        put("b", 4);
        assert!(closures.get(&key("a")).is_some());
        put("c", 4);
        assert!(closures.get(&key("b")).is_none());
        assert!(closures.get(&key("a")).is_some() && closures.get(&key("c")).is_some());
        put("c", 6);
        assert!(
            closures.get(&key("a")).is_some(),
            "a replacement is counted once"
        );
        put("large", 11);
        assert!(closures.get(&key("large")).is_none());
        put("d", 10);
        assert!(closures.get(&key("a")).is_none() && closures.get(&key("d")).is_some());
    }

    #[test]
    fn another_digest_is_another_closure() {
        let closures = ClosureCache::default();
        closures.put(("uri".to_owned(), vec![1]), Arc::default(), 1);
        assert!(closures.get(&("uri".to_owned(), vec![2])).is_none());
    }
}
