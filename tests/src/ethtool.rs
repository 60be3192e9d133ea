//! The few `ethtool` switches the lab needs, and the one `ioctl` behind them.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// A feature of a device that can be on or off. The values are `ethtool.h`'s "set" commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Feature {
    /// Checksums of sent packets are left to the device; a veth has none to compute, and delivers them unfinished.
    TxChecksum = 0x17,
    /// Received packets are merged. On a veth it also makes the device take XDP frames from its peer.
    ReceiveOffload = 0x2c,
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches a feature of a device of the calling thread's namespace.
///
/// # Errors
/// When there is no such device, or it cannot change the feature.
pub fn set(device: &str, feature: Feature, on: bool) -> Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let value = EthtoolValue {
        command: feature as u32,
        data: on.into(),
    };
    ioctl(&socket, device, value).with_context(|| format!("ethtool: {device}: {feature:?} {on}"))
}

fn ioctl(socket: &OwnedFd, device: &str, mut value: EthtoolValue) -> io::Result<()> {
    let mut name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if device.len() >= name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the device's name is too long",
        ));
    }
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    let data = (&raw mut value).cast::<c_char>();
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data },
    };
    // SAFETY: both ethtool commands of `Feature` read one `ethtool_value` through `ifru_data`; it and the request live
    // until the call returns, and the kernel keeps no pointer to them.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
