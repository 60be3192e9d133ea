//! The BPF file system under the pins.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::error::DataplaneError;

/// Where every distribution mounts it.
const USUAL: &str = "/sys/fs/bpf";

/// Makes sure that `path` is a directory on a BPF file system, mounting one where there is none: at the usual place when
/// `path` lies below it, else at `path`.
pub(super) fn ensure(path: &Path) -> Result<(), DataplaneError> {
    if !path.is_absolute() {
        return Err(DataplaneError::Refused(format!(
            "--bpffs {}: the path must be absolute",
            path.display()
        )));
    }
    if is_bpffs(nearest_existing(path))? {
        return create(path);
    }
    if path.starts_with(USUAL) {
        mount_at(Path::new(USUAL))?;
        return create(path);
    }
    create(path)?;
    mount_at(path)
}

/// Whether `path` lies on a BPF file system.
pub(super) fn is_bpffs(path: &Path) -> Result<bool, DataplaneError> {
    match statfs(path) {
        Ok(stat) => Ok(stat.filesystem_type() == BPF_FS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(DataplaneError::io(format!("statfs {}", path.display()))(
            error.into(),
        )),
    }
}

fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"))
}

fn create(path: &Path) -> Result<(), DataplaneError> {
    // bpffs refuses names with a dot, with an error that says only "not permitted".
    if let Some(name) = path.file_name().filter(|n| n.to_string_lossy().contains('.')) {
        return Err(DataplaneError::Refused(format!(
            "--bpffs {}: a BPF file system takes no names with a dot ({})",
            path.display(),
            name.to_string_lossy()
        )));
    }
    fs::create_dir_all(path).map_err(DataplaneError::io(format!("creating {}", path.display())))
}

fn mount_at(path: &Path) -> Result<(), DataplaneError> {
    mount(
        Some("bpf"),
        path,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|error| {
        DataplaneError::io(format!("mounting a BPF file system at {}", path.display()))(error.into())
    })?;
    tracing::info!(path = %path.display(), "mounted a BPF file system");
    Ok(())
}
