//! Whether an agent runs: who holds the lock on the directory of its pins.
//!
//! The agent locks that directory (`flock`) for life; the kernel lets go however it ends. The holder is read from `/proc/locks`:
//! trying the lock instead could make an agent fail that starts at that moment.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};

use crate::snapshot::RunningAgent;

/// The agent that holds `bpffs`, if there is one.
///
/// # Errors
/// The directory or the list of locks cannot be read.
pub fn find(bpffs: &Path) -> io::Result<Option<RunningAgent>> {
    let directory = fs::metadata(bpffs)?;
    let locks = fs::read_to_string("/proc/locks")?;
    let device = (major(directory.dev()), minor(directory.dev()));
    Ok(holder(&locks, device, directory.ino()))
}

/// The holder of an exclusive `flock` in the text of `/proc/locks`, whose lines read
/// `1: FLOCK  ADVISORY  WRITE 1234 00:2a:77 0 EOF` (process, then device numbers in hexadecimal and the inode).
fn holder(locks: &str, device: (u64, u64), inode: u64) -> Option<RunningAgent> {
    let wanted = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    locks.lines().find_map(
        |line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [_, "FLOCK", _, "WRITE", pid, place, ..] if *place == wanted => {
                // A process of another pid namespace shows as 0 or less.
                Some(RunningAgent {
                    pid: pid.parse().ok().filter(|pid| *pid > 0),
                })
            }
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{Flock, FlockArg};

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 40 00:2a:77 0 EOF
2: FLOCK  ADVISORY  WRITE 41 00:2b:77 0 EOF
3: FLOCK  ADVISORY  WRITE 42 00:2a:77 0 EOF
3: -> FLOCK  ADVISORY  WRITE 43 00:2a:78 0 EOF
4: FLOCK  ADVISORY  WRITE 0 00:2a:79 0 EOF
";

    #[test]
    fn the_holder_is_the_process_that_has_this_very_directory() {
        for (inode, expected) in [
            (77, Some(RunningAgent { pid: Some(42) })),
            (78, None),
            (79, Some(RunningAgent { pid: None })),
            (80, None),
        ] {
            assert_eq!(holder(LOCKS, (0, 0x2a), inode), expected, "inode {inode}");
        }
    }

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(find(directory.path()).unwrap(), None);
        let file = fs::File::open(directory.path()).unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        assert!(find(directory.path()).unwrap().is_some());
        drop(lock);
        assert_eq!(find(directory.path()).unwrap(), None);
    }
}
