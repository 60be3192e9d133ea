//! Map `devices`: network devices by ifindex. An array, so that the packet path pays no hash look-up for it.

use crate::addr::{Addr4, Addr6};
use bytemuck::{Pod, Zeroable};

/// Largest ifindex + 1 the map holds; a device beyond it is not attached and reported.
pub const MAX_DEVICES: usize = 1 << 16;

/// [`Device::kind`]: not one of ours.
pub const NONE: u8 = 0;
/// A device to the outside.
pub const UPLINK: u8 = 1;
/// The host's end of a pod's device.
pub const POD: u8 = 2;
/// The loopback device: packets of the host to itself.
pub const LOOPBACK: u8 = 3;

/// ifindex of the loopback device, the same in every network namespace (`LOOPBACK_IFINDEX`).
pub const LOOPBACK_IFINDEX: u32 = 1;

/// [`Device::flags`]: XDP may transmit out of it (it is in `tx_devices`, or native XDP is on it).
pub const XDP_TX: u8 = 1;

/// A device.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Device {
    /// Bytes 0–5 the MAC as in a frame's first six bytes, byte 6 the kind, byte 7 the flags: one load on the packet path.
    pub word: u64,
    /// The IPv4 address that packets leaving here get as rewritten source (S19); 0 = none.
    pub addr4: Addr4,
    /// The same for IPv6; zero = none.
    pub addr6: [u32; 4],
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Device>() == 32);

/// The MAC bytes of [`Device::word`] (little-endian load).
pub const MAC_MASK: u64 = 0x0000_ffff_ffff_ffff;

impl Device {
    /// A device.
    #[must_use]
    pub fn new(mac: [u8; 6], kind: u8, flags: u8, addr4: Option<Addr4>, addr6: Option<Addr6>) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self {
            word: u64::from_le_bytes([a, b, c, d, e, f, kind, flags]),
            addr4: addr4.unwrap_or_default(),
            addr6: addr6.unwrap_or_default().0,
            pad: 0,
        }
    }

    /// The hardware address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.word.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// [`UPLINK`], [`POD`], [`LOOPBACK`] or [`NONE`].
    #[inline(always)]
    #[must_use]
    pub const fn kind(&self) -> u8 {
        (self.word >> 48) as u8
    }

    /// [`XDP_TX`].
    #[inline(always)]
    #[must_use]
    pub const fn flags(&self) -> u8 {
        (self.word >> 56) as u8
    }
}
