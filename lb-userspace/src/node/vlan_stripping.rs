//! Whether a driver takes VLAN tags out of received frames: one ioctl.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

// From linux/ethtool.h, where they are part of the kernel's interface.
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

mod request {
    nix::ioctl_readwrite_bad!(ethtool, nix::libc::SIOCETHTOOL, nix::libc::ifreq);
}

/// A socket to ask through; it sees the network namespace it was opened in.
pub(super) struct VlanStripping(OwnedFd);

impl VlanStripping {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        Ok(Self(socket))
    }

    /// Whether device `name` does it; `None` when that cannot be learned.
    pub(super) fn of(&self, name: &str) -> Option<bool> {
        let mut value = EthtoolValue {
            command: ETHTOOL_GFLAGS,
            data: 0,
        };
        let mut asked = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: (&raw mut value).cast(),
            },
        };
        // The last byte stays the terminator.
        if name.len() >= libc::IFNAMSIZ {
            return None;
        }
        for (place, byte) in asked.ifr_name.iter_mut().zip(name.bytes()) {
            *place = libc::c_char::from_ne_bytes([byte]);
        }
        // SAFETY: SIOCETHTOOL takes a `struct ifreq` whose data points at what the command says: for ETHTOOL_GFLAGS a
        // `struct ethtool_value`, which `value` is laid out as; both live until the call returns.
        unsafe { request::ethtool(self.0.as_raw_fd(), &raw mut asked) }.ok()?;
        Some(value.data & ETH_FLAG_RXVLAN != 0)
    }
}
