//! Names and places that belong to this process, and sweeping up after processes that died without doing so.
//!
//! Everything the lab leaves visible in the system (named namespaces, bpffs mounts) carries the pid of its maker, so
//! that the next lab can tell the leftovers of a dead one from the property of a living one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Uid;

/// What every name of the lab begins with.
const PREFIX: &str = "xvl-";
/// Where `ip netns` looks for names.
pub(crate) const NETNS_DIR: &str = "/run/netns";
/// Where scratch directories are.
const SCRATCH_DIR: &str = "/run/xvl";

static SERIAL: AtomicU32 = AtomicU32::new(0);
static SWEEP: Once = Once::new();

/// A name nobody else has: `xvl-<pid>-<serial>-<label>`.
#[must_use]
pub fn unique_name(label: &str) -> String {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{serial}-{label}", process::id())
}

/// Checks that the lab can work here at all, and removes what dead labs left, once a process.
///
/// # Errors
/// When not root.
pub fn prepare() -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "the test lab makes network namespaces and loads eBPF programs: run it as root (e.g. with sudo)"
    );
    share_netns_dir()?;
    SWEEP.call_once(sweep);
    Ok(())
}

/// Makes the directory of names a shared mount of its own, as `ip netns add` does when nobody has: done by it while our
/// names exist, it would cover the mounts below, and the names could not be removed any more.
fn share_netns_dir() -> Result<()> {
    let dir = Path::new(NETNS_DIR);
    fs::create_dir_all(dir).with_context(|| format!("making {NETNS_DIR}"))?;
    let lock = File::open(dir).with_context(|| format!("opening {NETNS_DIR}"))?;
    lock.lock().with_context(|| format!("locking {NETNS_DIR}"))?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, dir, None::<&str>, flags, None::<&str>)
    };
    let shared = match share() {
        // It is no mount yet.
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(dir), dir, None::<&str>, flags, None::<&str>).and_then(|()| share())
        }
        other => other,
    };
    shared.with_context(|| format!("making {NETNS_DIR} a shared mount"))
}

/// A directory of this process, removed with everything mounted below it on drop.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(label: &str) -> Result<Self> {
        prepare()?;
        let path = Path::new(SCRATCH_DIR).join(unique_name(label));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts a BPF file system of its own at `name` in the directory.
    ///
    /// # Errors
    /// When the kernel refuses the mount.
    pub fn mount_bpffs(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a bpffs at {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_tree(&self.path);
    }
}

/// Removes a namespace's name. The namespace itself goes with its last user.
pub(crate) fn remove_netns_name(path: &Path) {
    // Either may be gone already, when somebody ran `ip netns del`.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // Directories that are no mount answer EINVAL, which is what we want to know.
        while umount2(&entry.path(), MntFlags::MNT_DETACH) != Err(Errno::EINVAL) {
            if !entry.path().exists() {
                break;
            }
        }
    }
    let _ = fs::remove_dir_all(path);
}

/// Removes what dead labs left: their namespaces' names and scratch directories.
pub fn sweep() {
    for path in leftovers(Path::new(NETNS_DIR)) {
        remove_netns_name(&path);
    }
    for path in leftovers(Path::new(SCRATCH_DIR)) {
        remove_tree(&path);
    }
}

fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_orphan))
        .map(|entry| entry.path())
        .collect()
}

fn is_orphan(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_maker_and_differ() {
        let (a, b) = (unique_name("pod"), unique_name("pod"));
        assert_ne!(a, b);
        assert_eq!(owner(&a), Some(process::id()));
    }

    #[test]
    fn only_names_of_dead_labs_are_orphans() {
        assert!(!is_orphan(&unique_name("pod")));
        assert!(!is_orphan("somebody-elses"));
        // Above the kernel's highest possible pid.
        assert!(is_orphan("xvl-4194305-0-pod"));
    }
}
