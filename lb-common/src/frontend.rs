//! Map `frontends`: (address, port, protocol) to a service record.

use crate::addr::Addr;
use crate::port::Port;
use bytemuck::{Pod, Zeroable};

/// Key. A nodePort stands under [`Addr::ANY4`] or [`Addr::ANY6`]; a ClusterIP as a whole (S24) under port and protocol 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct FrontendKey {
    /// Destination address.
    pub addr: Addr,
    /// Destination port, in network order.
    pub port: u16,
    /// Protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
}

impl FrontendKey {
    /// A key.
    #[inline(always)]
    #[must_use]
    pub const fn new(addr: Addr, port: Port, proto: u8) -> Self {
        Self {
            addr,
            port: port.0,
            proto,
            pad: 0,
        }
    }

    /// 32 bits that tell this key's value from a foreign one: a kernel hash element is recycled under its reader.
    #[inline(always)]
    #[must_use]
    pub const fn tag(&self) -> u32 {
        let [a, b, c, d] = self.addr.0;
        let lo = a as u64 | (b as u64) << 32;
        let hi = c as u64 | (d as u64) << 32;
        let ports = self.port as u64 | (self.proto as u64) << 16;
        let h = lo.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ hi.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
            ^ ports.wrapping_mul(0x1656_67b1_9e37_79f9);
        ((h ^ (h >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}

/// Value: one aligned word, so that a reader sees all of it or none. Index of the service record, and the key's tag.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct FrontendValue(pub u64);

impl FrontendValue {
    /// The value of `key` pointing at record `index`.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: &FrontendKey, index: u32) -> Self {
        Self((index as u64) << 32 | key.tag() as u64)
    }

    /// The record's index, if this value is `key`'s.
    #[inline(always)]
    #[must_use]
    pub const fn index_for(self, key: &FrontendKey) -> Option<u32> {
        if self.0 as u32 == key.tag() {
            Some(self.index())
        } else {
            None
        }
    }

    /// The record's index.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

const _: () = assert!(size_of::<FrontendKey>() == 20);
