//! Changes of files, told by the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

/// A watch on one file or folder.
#[derive(Debug)]
pub(crate) struct Inotify {
    handle: AsyncFd<OwnedFd>,
}

/// What a watch saw since it was last asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Names in the folder, in order.
    pub(crate) names: Vec<String>,
    /// The kernel dropped some: look at everything.
    pub(crate) overflow: bool,
}

impl Inotify {
    pub(crate) fn new(path: &Path, flags: WatchFlags) -> io::Result<Self> {
        let handle = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&handle, path, flags)?;
        Ok(Self {
            handle: readable(handle)?,
        })
    }

    /// Waits for changes and returns all there are.
    pub(crate) async fn changes(&self) -> io::Result<Seen> {
        loop {
            let mut guard = self.handle.readable().await?;
            let mut seen = Seen::default();
            let mut any = false;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(guard.get_inner(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        any = true;
                        seen.overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                        if let Some(name) = event.file_name() {
                            seen.names.push(name.to_string_lossy().into_owned());
                        }
                    }
                    Err(rustix::io::Errno::WOULDBLOCK) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            guard.clear_ready();
            if any {
                return Ok(seen);
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
