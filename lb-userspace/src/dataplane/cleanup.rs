//! Removing everything that was ever installed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lb_common::device;
use lb_common::layout::maps;

use super::attach::detach_clsact;
use super::bpffs::is_bpffs;
use super::error::DataplaneError;
use super::links;
use super::pins::{Lock, Pins, names_in};
use super::reader::Reader;

/// What [`cleanup`] removed; empty when there was nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Links: programs detached from devices, as `v1/links/3-tc-in`.
    pub links: Vec<String>,
    /// Filters in clsact qdiscs, by device number.
    pub filters: Vec<(u32, usize)>,
    /// Maps, as `v1/maps/flows4`.
    pub maps: Vec<String>,
    /// Directories.
    pub directories: Vec<PathBuf>,
}

impl Removed {
    /// Whether nothing was there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Detaches every program installed under `bpffs` and removes every map, of every layout version. Connections that pass
/// through the load balancer end. May be repeated.
///
/// # Errors
/// An agent is at work there, or something cannot be removed; what was removed until then stays removed.
pub fn cleanup(bpffs: &Path) -> Result<Removed, DataplaneError> {
    let mut removed = Removed::default();
    if !bpffs.exists() || !is_bpffs(bpffs)? {
        return Ok(removed);
    }
    let lock = Lock::take(bpffs)?;
    for pins in Pins::of_all_versions(bpffs)? {
        // Programs first: nothing may run on maps that are half gone.
        remove_filters(&pins, &mut removed);
        removed
            .links
            .extend(remove_pins(bpffs, &pins.links(), links::remove)?);
        removed.maps.extend(remove_pins(bpffs, &pins.maps(), remove_map)?);
        for directory in [pins.links(), pins.maps(), pins.root().to_owned()] {
            remove_directory(directory, &mut removed)?;
        }
    }
    if names_in(bpffs)?.is_empty() {
        remove_directory(bpffs.to_owned(), &mut removed)?;
    }
    drop(lock);
    Ok(removed)
}

/// Filters have no pin: the devices that were attached to say where they can be.
fn remove_filters(pins: &Pins, removed: &mut Removed) {
    if !pins.map(maps::DEVICES).exists() {
        return;
    }
    let devices = match Reader::new(pins.clone()).devices() {
        Ok(devices) => devices,
        Err(error) => {
            tracing::warn!(%error, "the devices of an older layout cannot be read: filters on them are not looked for");
            return;
        }
    };
    for (ifindex, entry) in devices {
        debug_assert_ne!(entry.kind(), device::NONE);
        match detach_clsact(ifindex) {
            Ok(0) => {}
            Ok(count) => removed.filters.push((ifindex, count)),
            Err(error) => tracing::warn!(ifindex, %error, "filters could not be looked for"),
        }
    }
}

/// Removes every pin in a directory; returns them as seen from `bpffs`.
fn remove_pins(
    bpffs: &Path,
    directory: &Path,
    remove: impl Fn(&Path) -> Result<(), DataplaneError>,
) -> Result<Vec<String>, DataplaneError> {
    let mut removed = Vec::new();
    for name in names_in(directory)? {
        let path = directory.join(name);
        remove(&path)?;
        removed.push(path.strip_prefix(bpffs).unwrap_or(&path).display().to_string());
    }
    Ok(removed)
}

fn remove_map(path: &Path) -> Result<(), DataplaneError> {
    fs::remove_file(path).map_err(DataplaneError::io(format!("removing {}", path.display())))
}

/// Removes an empty directory. A mount point stays: it may not be ours.
fn remove_directory(path: PathBuf, removed: &mut Removed) -> Result<(), DataplaneError> {
    match fs::remove_dir(&path) {
        Ok(()) => {
            removed.directories.push(path);
            Ok(())
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(DataplaneError::io(format!("removing {}", path.display()))(error)),
    }
}
