//! Map `prefilter`: a bitmap over addresses that occur as frontend or backend, small enough for the L1 cache. Most packets
//! of a host are not ours; for them it saves the flow table's cache miss.

use crate::addr::{Addr, Addr4, Addr6};

/// log2 of the number of bits.
pub const BITS_LOG2: u32 = 17;
/// Words of 64 bits: the map's entries.
pub const WORDS: usize = 1 << (BITS_LOG2 - 6);

const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// The bit of an IPv4 address.
#[inline(always)]
#[must_use]
pub const fn bit4(addr: Addr4) -> u32 {
    ((addr.0 as u64).wrapping_mul(K1) >> (64 - BITS_LOG2)) as u32
}

/// The bit of an IPv6 address.
#[inline(always)]
#[must_use]
pub const fn bit6(addr: Addr6) -> u32 {
    let [a, b, c, d] = addr.0;
    let hi = a as u64 | (b as u64) << 32;
    let lo = c as u64 | (d as u64) << 32;
    let h = hi.wrapping_mul(K1) ^ lo.wrapping_mul(K2);
    ((h ^ (h >> 32)).wrapping_mul(K1) >> (64 - BITS_LOG2)) as u32
}

/// The bit of an address of either family.
#[must_use]
pub const fn bit(addr: Addr) -> u32 {
    if addr.is_v4() {
        bit4(Addr4(addr.0[3]))
    } else {
        bit6(Addr6(addr.0))
    }
}

/// The bit that stands for an address as frontend alone, beside the address's own [`bit`]: of what leaves the node addressed to a
/// pod, only the few that are addressed to a frontend need a closer look.
#[inline(always)]
#[must_use]
pub const fn frontend_bit(bit: u32) -> u32 {
    bit ^ 1 << (BITS_LOG2 - 1)
}

/// The map index that holds a bit, and the bit in its word.
#[inline(always)]
#[must_use]
pub const fn place(bit: u32) -> (u32, u64) {
    (bit >> 6, 1 << (bit & 63))
}
