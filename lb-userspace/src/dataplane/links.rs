//! Pinned links: what they are called, and whether one still holds a device.
//!
//! Owns: the names in the `links` directory. The name says what cannot be asked of a link: in which mode XDP was attached.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use super::error::DataplaneError;
use super::pins::{Pins, names_in};
use super::syscall;

/// Where on a device a program is attached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// XDP, run by the driver.
    XdpNative,
    /// XDP, run by the kernel's receive path.
    XdpGeneric,
    /// tc ingress.
    TcIngress,
    /// tc egress.
    TcEgress,
}

impl Hook {
    const ALL: [(Self, &'static str); 4] = [
        (Self::XdpNative, "xdp-native"),
        (Self::XdpGeneric, "xdp-generic"),
        (Self::TcIngress, "tc-in"),
        (Self::TcEgress, "tc-out"),
    ];

    /// The name, as in the pin's.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(hook, _)| *hook == self)
            .map_or("", |(_, name)| name)
    }
}

/// A pinned link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PinnedHook {
    /// The device it was attached to.
    pub ifindex: u32,
    /// Where on it.
    pub hook: Hook,
}

/// Whether a pinned link still holds the device it is named after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// No such pin.
    Absent,
    /// Attached to the device.
    Attached,
    /// The device has gone; another may have its number by now.
    Stale,
}

impl PinnedHook {
    /// Where it is pinned.
    pub(super) fn path(&self, pins: &Pins) -> PathBuf {
        pins.links()
            .join(format!("{}-{}", self.ifindex, self.hook.name()))
    }

    fn parse(name: &str) -> Option<Self> {
        let (ifindex, hook) = name.split_once('-')?;
        let (hook, _) = *Hook::ALL.iter().find(|(_, n)| *n == hook)?;
        Some(Self {
            ifindex: ifindex.parse().ok()?,
            hook,
        })
    }

    /// Looks at the link.
    pub(super) fn state(&self, pins: &Pins) -> Result<State, DataplaneError> {
        let path = self.path(pins);
        match held_ifindex(&path) {
            Ok(ifindex) if ifindex == self.ifindex => Ok(State::Attached),
            Ok(_) => Ok(State::Stale),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Absent),
            Err(error) => Err(DataplaneError::io(format!("looking at link {}", path.display()))(
                error,
            )),
        }
    }

    /// Detaches the program and removes the pin. A link that is absent is no error.
    pub(super) fn remove(&self, pins: &Pins) -> Result<(), DataplaneError> {
        remove(&self.path(pins))
    }
}

/// Detaches a pinned link and removes its pin.
pub(super) fn remove(path: &Path) -> Result<(), DataplaneError> {
    match try_remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataplaneError::io(format!(
            "removing link {}",
            path.display()
        ))(error)),
        _ => Ok(()),
    }
}

fn try_remove(path: &Path) -> io::Result<()> {
    let link = syscall::open_pinned(path)?;
    // The pin's end detaches too, but not before this call returns; and XDP has one place, which the next link may want.
    if let Err(error) = syscall::detach_link(link.as_fd()) {
        tracing::debug!(path = %path.display(), %error, "the link is left to detach with its pin");
    }
    fs::remove_file(path)
}

/// The pinned links, by device and hook.
pub(super) fn pinned(pins: &Pins) -> Result<Vec<PinnedHook>, DataplaneError> {
    let mut hooks: Vec<_> = names_in(&pins.links())?
        .iter()
        .filter_map(|name| PinnedHook::parse(name))
        .collect();
    hooks.sort();
    Ok(hooks)
}

/// The device a pinned link holds, 0 if it has gone: the kernel shows it in the descriptor's fdinfo.
fn held_ifindex(path: &Path) -> io::Result<u32> {
    let link = syscall::open_pinned(path)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    ifindex_in(&info)
        .ok_or_else(|| io::Error::other("the kernel does not say which device it is attached to"))
}

fn ifindex_in(fdinfo: &str) -> Option<u32> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("ifindex:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_survive_the_way_back() {
        let pins = Pins::new(Path::new("/bpf"));
        for (hook, _) in Hook::ALL {
            let pinned = PinnedHook { ifindex: 17, hook };
            let path = pinned.path(&pins);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(PinnedHook::parse(name), Some(pinned));
        }
        for foreign in ["17", "x-tc-in", "17-tc", "17-tc-in-x"] {
            assert_eq!(PinnedHook::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_device_is_read_from_what_the_kernel_prints() {
        let xdp = "pos:\t0\nflags:\t02000000\nlink_type:\txdp\nlink_id:\t7\nprog_tag:\t3b185187f1855c4c\nprog_id:\t9\nifindex:\t5\n";
        assert_eq!(ifindex_in(xdp), Some(5));
        let tcx = "link_type:\ttcx\nifindex:\t0\nattach_type:\t46 (BPF_TCX_INGRESS)\n";
        assert_eq!(ifindex_in(tcx), Some(0));
        assert_eq!(ifindex_in("link_type:\tcgroup\n"), None);
    }
}
