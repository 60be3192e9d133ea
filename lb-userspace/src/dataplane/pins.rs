//! Where things are pinned: `<bpffs>/v<layout>/{maps,links}/…`.
//!
//! Owns: the paths, and the lock that keeps two writers apart.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lb_common::layout::VERSION;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::DataplaneError;

/// The directories of one installation and layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pins {
    base: PathBuf,
    version: PathBuf,
}

impl Pins {
    /// The pins of this version's layout under `bpffs`.
    pub(super) fn new(bpffs: &Path) -> Self {
        Self::of_version(bpffs, VERSION)
    }

    fn of_version(bpffs: &Path, version: u32) -> Self {
        Self {
            base: bpffs.to_owned(),
            version: bpffs.join(format!("v{version}")),
        }
    }

    /// The pins of every layout that was ever installed under `bpffs`, oldest first.
    pub(super) fn of_all_versions(bpffs: &Path) -> Result<Vec<Self>, DataplaneError> {
        let mut versions: Vec<u32> = names_in(bpffs)?
            .iter()
            .filter_map(|name| name.strip_prefix('v')?.parse().ok())
            .collect();
        versions.sort_unstable();
        Ok(versions.into_iter().map(|v| Self::of_version(bpffs, v)).collect())
    }

    /// Creates the directories.
    pub(super) fn create(&self) -> Result<(), DataplaneError> {
        for directory in [self.maps(), self.links()] {
            fs::create_dir_all(&directory)
                .map_err(DataplaneError::io(format!("creating {}", directory.display())))?;
        }
        Ok(())
    }

    /// The layout's own directory.
    pub(super) fn root(&self) -> &Path {
        &self.version
    }

    /// The directory of maps.
    pub(super) fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    /// The directory of links.
    pub(super) fn links(&self) -> PathBuf {
        self.version.join("links")
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Takes the installation for this process.
    pub(super) fn lock(&self) -> Result<Lock, DataplaneError> {
        Lock::take(&self.base)
    }
}

/// Held by the one process that writes. A lock on the directory, because a BPF file system holds no regular files; the
/// kernel lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: Flock<File>,
}

impl Lock {
    /// Takes the lock of `directory`, or says that somebody is in the way. One who is just leaving is waited for: an agent
    /// being restarted, or a child of ours between fork and exec.
    pub(super) fn take(directory: &Path) -> Result<Self, DataplaneError> {
        let mut open =
            File::open(directory).map_err(DataplaneError::io(format!("opening {}", directory.display())))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { _directory: lock }),
                Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => open = file,
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(DataplaneError::InUse {
                        path: directory.to_owned(),
                    });
                }
                Err((_, error)) => {
                    return Err(DataplaneError::io(format!("locking {}", directory.display()))(
                        error.into(),
                    ));
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How long a lock is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Names in a directory, sorted; none when it does not exist.
pub(super) fn names_in(directory: &Path) -> Result<Vec<String>, DataplaneError> {
    let wrap = || DataplaneError::io(format!("reading {}", directory.display()));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrap()(error)),
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(wrap())?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_ever_installed_is_found_oldest_first() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["v10", "v2", "vx", "other", "v1"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let found = Pins::of_all_versions(directory.path()).unwrap();
        let roots: Vec<_> = found
            .iter()
            .map(|p| p.root().file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(roots, ["v1", "v2", "v10"]);
        assert!(
            Pins::of_all_versions(&directory.path().join("absent"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        let error = Lock::take(directory.path()).unwrap_err();
        assert!(matches!(error, DataplaneError::InUse { .. }), "{error}");
        drop(first);
        Lock::take(directory.path()).unwrap();
    }
}
