//! Whether this installation had the loopback device accept local sources, so that `xvip cleanup` takes back that and no more.
//!
//! Owns: a file in the state directory, one for each directory of pins, as [`super::reserved`]. Must not know: why it is done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::node;

/// Has it accept them, and remembers when it did not before. Returns whether it did not.
///
/// # Errors
/// The sysctl or the file cannot be written.
pub fn accept(state: &Path, bpffs: &Path) -> io::Result<bool> {
    let path = path_of(state, bpffs);
    // Written first: a setting nobody remembers would stay for ever.
    let remembered = path.exists();
    if !remembered {
        fs::create_dir_all(state)?;
        fs::write(&path, "")?;
    }
    let changed = node::accept_local()?;
    if !changed && !remembered {
        fs::remove_file(&path)?;
    }
    Ok(changed)
}

/// Takes it back, if it was this installation's doing. Returns whether it was.
///
/// # Errors
/// The sysctl or the file cannot be written.
pub fn refuse(state: &Path, bpffs: &Path) -> io::Result<bool> {
    let path = path_of(state, bpffs);
    if !path.exists() {
        return Ok(false);
    }
    node::refuse_local()?;
    fs::remove_file(&path)?;
    Ok(true)
}

fn path_of(state: &Path, bpffs: &Path) -> PathBuf {
    state.join(format!(
        "accept-local{}",
        bpffs.to_string_lossy().replace('/', "-")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_remembered_is_nothing_to_take_back() {
        let state = tempfile::tempdir().unwrap();
        assert!(!refuse(state.path(), Path::new("/sys/fs/bpf/xvip")).unwrap());
    }
}
