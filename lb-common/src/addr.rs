//! IP addresses as they stand on the wire.

use bytemuck::{Pod, Zeroable};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address: the four bytes of the header, loaded as one native word. Never used in arithmetic.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Pod, Zeroable)]
pub struct Addr4(pub u32);

/// An IPv6 address: the sixteen bytes of the header as four native words (a `[u8; 16]` would be copied by a
/// byte loop in the kernel programs).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Pod, Zeroable)]
pub struct Addr6(pub [u32; 4]);

/// An address of either family in the maps that hold both: IPv6, or IPv4 mapped into `::ffff:0:0/96` (RFC 4291, 2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Pod, Zeroable)]
pub struct Addr(pub [u32; 4]);

/// The third word of an IPv4-mapped address, in network order.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Addr {
    /// The "any node address" of IPv4: the key under which nodePort frontends stand.
    pub const ANY4: Self = Self([0, 0, MAPPED, 0]);
    /// The "any node address" of IPv6.
    pub const ANY6: Self = Self([0; 4]);

    /// Whether this is an IPv4 address.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// The address as the standard library's type.
    #[must_use]
    pub fn to_ip(&self) -> IpAddr {
        let bytes: [u8; 16] = bytemuck::cast(self.0);
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
    }
}

impl From<Addr4> for Addr {
    #[inline(always)]
    fn from(a: Addr4) -> Self {
        Self([0, 0, MAPPED, a.0])
    }
}

impl From<Addr6> for Addr {
    #[inline(always)]
    fn from(a: Addr6) -> Self {
        Self(a.0)
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Addr4::from(v4).into(),
            IpAddr::V6(v6) => Addr6::from(v6).into(),
        }
    }
}

impl From<Ipv4Addr> for Addr4 {
    fn from(ip: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Addr4> for Ipv4Addr {
    fn from(a: Addr4) -> Self {
        Self::from(a.0.to_ne_bytes())
    }
}

impl From<Ipv6Addr> for Addr6 {
    fn from(ip: Ipv6Addr) -> Self {
        Self(bytemuck::cast(ip.octets()))
    }
}

impl From<Addr6> for Ipv6Addr {
    fn from(a: Addr6) -> Self {
        Self::from(bytemuck::cast::<_, [u8; 16]>(a.0))
    }
}

/// What the kernel programs need of an address, whichever its family.
pub trait Address: Copy + Eq + core::fmt::Debug + Into<Addr> {
    /// What fills a flow entry of this family to whole cache lines.
    type EntryPad: Pod + Eq + core::fmt::Debug;
    /// The words of the address, summed into `acc` for a one's complement checksum (RFC 1071).
    fn sum(self, acc: u64) -> u64;
    /// The same for the complement of every word: what takes the address out of a checksum (RFC 1624).
    fn sum_complement(self, acc: u64) -> u64;
    /// From the form the maps of both families hold; the family is the caller's knowledge.
    fn from_addr(addr: Addr) -> Self;
}

impl Address for Addr4 {
    type EntryPad = [u8; 0];
    #[inline(always)]
    fn sum(self, acc: u64) -> u64 {
        acc + self.0 as u64
    }
    #[inline(always)]
    fn sum_complement(self, acc: u64) -> u64 {
        acc + !self.0 as u64
    }
    #[inline(always)]
    fn from_addr(addr: Addr) -> Self {
        Self(addr.0[3])
    }
}

impl Address for Addr6 {
    type EntryPad = [u8; 16];
    #[inline(always)]
    fn sum(self, acc: u64) -> u64 {
        let [a, b, c, d] = self.0;
        acc + a as u64 + b as u64 + c as u64 + d as u64
    }
    #[inline(always)]
    fn sum_complement(self, acc: u64) -> u64 {
        let [a, b, c, d] = self.0;
        acc + !a as u64 + !b as u64 + !c as u64 + !d as u64
    }
    #[inline(always)]
    fn from_addr(addr: Addr) -> Self {
        Self(addr.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_way_through_the_mapped_form() {
        for ip in ["192.0.2.1", "0.0.0.0", "2001:db8::1", "::", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(Addr::from(ip).to_ip(), ip);
        }
        assert_eq!(Addr::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)), Addr::ANY4);
        assert_ne!(Addr::ANY4, Addr::ANY6);
    }
}
