//! Map `source_ranges`: which clients may use the frontends of a record (S23). A kernel LPM trie.
//!
//! Ranges are kept in numbered sets. A set is written whole before a record names it ([`crate::service::ServiceRecord::sources`]) and
//! is not changed while one does, so that a reader sees the old ranges of a Service or its new ones, never some of each.

use crate::addr::Addr;
use bytemuck::{Pod, Zeroable};
use core::net::IpAddr;

/// The value of an entry: the service port whose set it is. The kernel programs only ask whether there is one.
pub type SourceRangeOwner = u32;

/// What the trie compares, bit by bit from the first byte on.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct SetAddr {
    /// The set; never 0, which means "no ranges" in a record.
    pub set: u32,
    /// The client, or the network's address.
    pub addr: Addr,
}

/// Key.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct SourceRangeKey {
    /// How many bits of `bits` count. All of the set's do.
    pub prefix_len: u32,
    /// Set and address.
    pub bits: SetAddr,
}

/// Bits of a set's number.
const SET_BITS: u32 = 32;
/// Bits before an IPv4 address in its mapped form.
const MAPPED_BITS: u32 = 96;

impl SourceRangeKey {
    /// Bits of a key that asks for one client.
    pub const WHOLE: u32 = SET_BITS + 128;

    /// The network of `len` leading bits of `network`, whose other bits are zero.
    #[must_use]
    pub fn new(set: u32, network: IpAddr, len: u8) -> Self {
        let mapped = if network.is_ipv4() { MAPPED_BITS } else { 0 };
        let addr = network.into();
        Self {
            prefix_len: SET_BITS + mapped + u32::from(len),
            bits: SetAddr { set, addr },
        }
    }

    /// Address and length of the network; `None` for a key this program cannot have written.
    #[must_use]
    pub fn network(&self) -> Option<(IpAddr, u8)> {
        let len = self.prefix_len.checked_sub(SET_BITS)?;
        let network = self.bits.addr.to_ip();
        let (len, most) = match network {
            IpAddr::V4(_) => (len.checked_sub(MAPPED_BITS)?, 32),
            IpAddr::V6(_) => (len, 128),
        };
        let len = u8::try_from(len).ok().filter(|len| *len <= most)?;
        Some((network, len))
    }
}

const _: () = assert!(size_of::<SourceRangeKey>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_survive_the_way_through_the_key() {
        for (network, len) in [
            ("192.0.2.0", 24),
            ("192.0.2.7", 32),
            ("10.0.0.0", 1),
            ("2001:db8::", 32),
            ("2001:db8::1", 128),
        ] {
            let network: IpAddr = network.parse().unwrap();
            assert_eq!(
                SourceRangeKey::new(7, network, len).network(),
                Some((network, len))
            );
        }
    }

    #[test]
    fn a_foreign_key_is_no_network() {
        let key = SourceRangeKey::new(7, [192, 0, 2, 0].into(), 24);
        for prefix_len in [
            0,
            SET_BITS - 1,
            SET_BITS + MAPPED_BITS - 1,
            SourceRangeKey::WHOLE + 1,
        ] {
            assert_eq!(
                SourceRangeKey { prefix_len, ..key }.network(),
                None,
                "{prefix_len}"
            );
        }
    }
}
