//! Which ports this installation had the kernel reserve, so that `xvip cleanup` gives back those and no others.
//!
//! Owns: a file in the state directory, one for each directory of pins: agents of several network namespaces may share the
//! state directory, and each namespace has reservations of its own. Must not know: why ports are reserved.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::PortRange;
use crate::node;

/// Has ports reserved and remembers those that were not before. Returns them.
///
/// # Errors
/// The sysctl or the file cannot be written.
pub fn reserve(state: &Path, bpffs: &Path, ranges: &[PortRange]) -> io::Result<Vec<PortRange>> {
    let added = node::reserve_ports(ranges)?;
    if !added.is_empty() {
        let path = path_of(state, bpffs);
        let mut all = read(&path)?;
        all.extend(&added);
        fs::create_dir_all(state)?;
        fs::write(&path, render(&all)).map_err(|error| named(&path, &error))?;
    }
    Ok(added)
}

/// Gives back what was reserved and forgets it. Returns it; nothing when nothing was.
///
/// # Errors
/// The sysctl or the file cannot be written.
pub fn release(state: &Path, bpffs: &Path) -> io::Result<Vec<PortRange>> {
    let path = path_of(state, bpffs);
    let all: Vec<PortRange> = read(&path)?.into_iter().collect();
    if !all.is_empty() {
        node::release_ports(&all)?;
        fs::remove_file(&path).map_err(|error| named(&path, &error))?;
    }
    Ok(all)
}

fn path_of(state: &Path, bpffs: &Path) -> PathBuf {
    state.join(format!(
        "reserved-ports{}",
        bpffs.to_string_lossy().replace('/', "-")
    ))
}

fn read(path: &Path) -> io::Result<BTreeSet<PortRange>> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|reason| named(path, &io::Error::other(reason))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(named(path, &error)),
    }
}

/// One range a line.
fn parse(text: &str) -> Result<BTreeSet<PortRange>, String> {
    text.lines().map(str::parse).collect()
}

fn render(ranges: &BTreeSet<PortRange>) -> String {
    ranges.iter().map(|range| format!("{range}\n")).collect()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_the_file() {
        let ranges: BTreeSet<PortRange> = ["30000-32767", "61000-65535"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(parse(&render(&ranges)), Ok(ranges));
        assert!(
            parse("30000\n").is_err(),
            "a file that says something else is not guessed at"
        );
    }

    #[test]
    fn installations_that_share_a_state_directory_have_files_of_their_own() {
        let state = Path::new("/var/lib/xvip");
        assert_ne!(
            path_of(state, Path::new("/sys/fs/bpf/a")),
            path_of(state, Path::new("/sys/fs/bpf/b"))
        );
    }

    #[test]
    fn nothing_reserved_is_nothing_to_release() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(release(state.path(), Path::new("/sys/fs/bpf/xvip")).unwrap(), []);
    }
}
