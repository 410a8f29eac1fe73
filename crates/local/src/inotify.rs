//! Changes of files and folders, as the kernel reports them (inotify(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// One inotify instance: watches on any number of files and folders. A user has some hundred instances and many more
/// watches.
#[derive(Debug)]
pub(crate) struct Inotify {
    handle: AsyncFd<OwnedFd>,
}

/// What changed since an instance was asked last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Names in watched folders, in order.
    pub(crate) names: Vec<String>,
    /// The watches that saw something.
    pub(crate) watches: Vec<i32>,
    /// The kernel dropped some: everything may have changed.
    pub(crate) overflow: bool,
}

impl Inotify {
    /// An instance without watches.
    pub(crate) fn open() -> io::Result<Self> {
        let handle = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self {
            handle: readable(handle)?,
        })
    }

    /// An instance with one watch.
    pub(crate) fn new(path: &Path, flags: WatchFlags) -> io::Result<Self> {
        let inotify = Self::open()?;
        inotify.watch(path, flags)?;
        Ok(inotify)
    }

    /// Adds a watch and returns its descriptor, which is the same for all watches on one file.
    pub(crate) fn watch(&self, path: &Path, flags: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(self.handle.get_ref(), path, flags)?)
    }

    /// Removes a watch. One whose file is gone was removed with it.
    pub(crate) fn forget(&self, watch: i32) {
        match inotify::remove_watch(self.handle.get_ref(), watch) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => tracing::debug!(%error, "a watch cannot be removed"),
        }
    }

    /// Waits for changes and returns all there are. Several may wait: each change is returned to one of them, and the
    /// others wait on.
    pub(crate) async fn changes(&self) -> io::Result<Changes> {
        loop {
            let mut guard = self.handle.readable().await?;
            let mut changes = Changes::default();
            let mut any = false;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(guard.get_inner(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        any = true;
                        changes.overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                        if let Some(name) = event.file_name() {
                            changes.names.push(name.to_string_lossy().into_owned());
                        }
                        if !changes.watches.contains(&event.wd()) {
                            changes.watches.push(event.wd());
                        }
                    }
                    Err(rustix::io::Errno::WOULDBLOCK) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            guard.clear_ready();
            if any {
                return Ok(changes);
            }
        }
    }
}

/// Registers a descriptor for reading.
#[expect(
    deprecated,
    reason = "its successor is unsafe, which this workspace forbids; an OwnedFd stays the same open descriptor while it is \
              owned, which is all that the successor asks for"
)]
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE)
}
