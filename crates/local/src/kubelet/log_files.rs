//! How large logs grow: a container may write for ever, and the disk is everybody's. Beyond a bound the beginning of a log is
//! given back to the file system. The file keeps its length, and the container writes on at its end, so that nobody who
//! reads or writes it notices but whoever wants the beginning.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rustix::fs::FallocateFlags;

/// What is kept of a log at least, in bytes: five files of 10 MiB are what a kubelet keeps, and tasks log more than servers.
const KEPT: u64 = 128 << 20;
/// How much more it may become before its beginning goes.
const SLACK: u64 = 32 << 20;
/// Between checks of the lengths of logs; a disk takes several gigabytes in that time.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Gives the beginning of a log back if it has become too long.
pub(crate) fn bound(log: &Path) -> io::Result<()> {
    bound_to(log, KEPT, SLACK)
}

fn bound_to(log: &Path, kept: u64, slack: u64) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    const SECTOR: u64 = 512;
    let file = File::options().write(true).open(log)?;
    let found = file.metadata()?;
    if found.blocks() * SECTOR <= kept + slack {
        return Ok(());
    }
    // Whole blocks of any file system: what is left begins with data.
    let end = found.len().saturating_sub(kept) & !(slack - 1);
    rustix::fs::fallocate(
        &file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        0,
        end,
    )?;
    Ok(())
}

/// Where the first line that is still there begins.
pub(crate) fn beginning(file: &mut File) -> io::Result<u64> {
    let data = match rustix::fs::seek(&*file, rustix::fs::SeekFrom::Data(0)) {
        Ok(data) => data,
        // Nothing but a hole, or nothing at all; or a file system that knows no holes.
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL) => 0,
        Err(error) => return Err(error.into()),
    };
    if data == 0 {
        file.rewind()?;
        return Ok(0);
    }
    // The line that the bound cut through is left out; a very long one is not.
    const LONGEST: usize = 64 << 10;
    file.seek(SeekFrom::Start(data))?;
    let mut cut = vec![0; LONGEST];
    let count = file.read(&mut cut)?;
    let line = cut
        .iter()
        .take(count)
        .position(|byte| *byte == b'\n')
        .map_or(0, |position| position as u64 + 1);
    file.seek(SeekFrom::Start(data + line))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_log_beyond_its_bound_keeps_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("0.log");
        let mut written = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let (kept, slack) = (1 << 20, 1 << 19);
        for number in 0..200_000 {
            writeln!(written, "line {number:07} of a log").unwrap();
        }
        let mut read = File::open(&log).unwrap();
        assert_eq!(beginning(&mut read).unwrap(), 0);
        let length = read.metadata().unwrap().len();
        bound_to(&log, kept, slack).unwrap();
        let found = read.metadata().unwrap();
        assert_eq!(found.len(), length, "the container writes on at the end");
        assert!(
            found.blocks() * 512 <= kept + 2 * slack,
            "{}",
            found.blocks() * 512
        );
        let first = beginning(&mut read).unwrap();
        let mut rest = String::new();
        read.read_to_string(&mut rest).unwrap();
        assert!(rest.starts_with("line 0"), "{:?}", rest.get(..40));
        assert!(rest.ends_with("line 0199999 of a log\n"));
        assert_eq!(first + rest.len() as u64, length);
        assert!(rest.len() as u64 >= kept);
        writeln!(written, "more").unwrap();
        bound_to(&log, kept, slack).unwrap();
        assert_eq!(beginning(&mut read).unwrap(), first, "once is enough");
    }
}
