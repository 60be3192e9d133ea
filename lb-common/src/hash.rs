//! The flow table's hash: which two buckets a tuple may stand in.
//!
//! NH, the universal hash of UMAC (Black et al. 1999, RFC 4418): pairs of words, each with a secret added, multiplied and
//! summed. Its low bits are weak, so the sum is folded and multiplied once more before bits are taken ("mixed before
//! truncated": without the fold, one seed in a hundred loses a quarter of all entries on structured tuples).

use bytemuck::{Pod, Zeroable};

/// The secret words. Random per installation, so that nobody outside can choose tuples that collide.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Seed(pub [u32; 10]);

/// The 64-bit golden ratio, odd.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn nh(a: u32, b: u32, s: u32, t: u32) -> u64 {
    (a.wrapping_add(s) as u64).wrapping_mul(b.wrapping_add(t) as u64)
}

#[inline(always)]
const fn finish(sum: u64) -> u64 {
    (sum ^ (sum >> 32)).wrapping_mul(MIX)
}

/// Hash of an IPv4 tuple: source, destination, both ports as they stand in the header, protocol.
#[inline(always)]
#[must_use]
pub const fn tuple4(seed: &Seed, src: u32, dst: u32, ports: u32, proto: u8) -> u64 {
    let s = &seed.0;
    finish(nh(src, dst, s[0], s[1]).wrapping_add(nh(ports, proto as u32, s[2], s[3])))
}

/// Hash of an IPv6 tuple.
#[inline(always)]
#[must_use]
pub const fn tuple6(seed: &Seed, src: &[u32; 4], dst: &[u32; 4], ports: u32, proto: u8) -> u64 {
    let s = &seed.0;
    let a = nh(src[0], src[1], s[0], s[1]).wrapping_add(nh(src[2], src[3], s[2], s[3]));
    let b = nh(dst[0], dst[1], s[4], s[5]).wrapping_add(nh(dst[2], dst[3], s[6], s[7]));
    finish(
        a.wrapping_add(b)
            .wrapping_add(nh(ports, proto as u32, s[8], s[9])),
    )
}

/// The first candidate bucket; `mask` is the number of buckets, a power of two up to 2^24, minus one.
#[inline(always)]
#[must_use]
pub const fn first_bucket(hash: u64, mask: u32) -> u32 {
    (hash >> 40) as u32 & mask
}

/// The second candidate, read only when the first is full: with one bucket of four, 2 % of the entries find no place at a
/// quarter full; with two, 0.03 %.
#[inline(always)]
#[must_use]
pub const fn second_bucket(hash: u64, mask: u32) -> u32 {
    (hash >> 16) as u32 & mask
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::flow::WAYS;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::{vec, vec::Vec};

    const BUCKETS: u32 = 1 << 12;
    /// A quarter of the table.
    const FLOWS: u32 = BUCKETS * WAYS as u32 / 4;

    fn tuple(pattern: u32, i: u32) -> (u32, u32, u32) {
        let ports = |p: u32| u32::from(u16::try_from(p).unwrap().to_be()) | u32::from(80_u16.to_be()) << 16;
        let addr = |a: u32| a.to_be();
        match pattern {
            // One client, consecutive source ports.
            0 => (addr(0x0a00_0001), addr(0x0a60_0001), ports(32768 + i)),
            // Consecutive clients, few ports each.
            1 => (
                addr(0x0a00_0000 + (i & 0xff)),
                addr(0x0a60_0001),
                ports(32768 + (i >> 8)),
            ),
            // Clients a subnet apart.
            2 => (
                addr(0x0a00_0000 + ((i >> 5) << 16)),
                addr(0x0a60_0001),
                ports(1024 + (i & 31)),
            ),
            // Consecutive VIPs.
            _ => (addr(0x0a00_0001), addr(0x0a60_0000 + i), ports(40000)),
        }
    }

    /// Entries that find both buckets full, over all flows of a pattern.
    fn homeless(seed: &Seed, pattern: u32, mixed: bool) -> u32 {
        let mut fill = vec![0_u8; BUCKETS as usize];
        let mut lost = 0;
        for i in 0..FLOWS {
            let (src, dst, ports) = tuple(pattern, i);
            let hash = if mixed {
                tuple4(seed, src, dst, ports, 6)
            } else {
                let s = &seed.0;
                nh(src, dst, s[0], s[1])
                    .wrapping_add(nh(ports, 6, s[2], s[3]))
                    .wrapping_mul(MIX)
            };
            let candidates = [first_bucket(hash, BUCKETS - 1), second_bucket(hash, BUCKETS - 1)];
            match candidates.into_iter().find(|b| fill[*b as usize] < WAYS as u8) {
                Some(b) => fill[b as usize] += 1,
                None => lost += 1,
            }
        }
        lost
    }

    fn seeds() -> Vec<Seed> {
        let mut rng = StdRng::seed_from_u64(5);
        (0..1000).map(|_| Seed(rng.random())).collect()
    }

    /// ⚑ Structured tuples spread for every seed, not for most: at a quarter full no more than 2 % may be homeless.
    #[test]
    fn structured_tuples_find_a_place_for_a_thousand_seeds() {
        for pattern in 0..4 {
            let worst = seeds().iter().map(|s| homeless(s, pattern, true)).max().unwrap();
            assert!(
                worst <= FLOWS / 50,
                "pattern {pattern}: {worst} of {FLOWS} flows without a place"
            );
        }
    }

    /// The check above can fail: without the fold some seeds lose more than the limit.
    #[test]
    fn without_the_fold_some_seeds_lose_entries() {
        let worst = (0..4)
            .flat_map(|p| seeds().into_iter().map(move |s| homeless(&s, p, false)))
            .max()
            .unwrap();
        assert!(worst > FLOWS / 50, "only {worst} of {FLOWS}");
    }

    #[test]
    fn every_word_of_an_ipv6_tuple_counts() {
        let seed = Seed([3, 5, 7, 11, 13, 17, 19, 23, 29, 31]);
        let base = tuple6(&seed, &[1, 2, 3, 4], &[5, 6, 7, 8], 9, 6);
        for word in 0..8 {
            let (mut src, mut dst) = ([1, 2, 3, 4], [5, 6, 7, 8]);
            if word < 4 {
                src[word] ^= 1
            } else {
                dst[word - 4] ^= 1
            }
            assert_ne!(tuple6(&seed, &src, &dst, 9, 6), base, "word {word}");
        }
        assert_ne!(tuple6(&seed, &[1, 2, 3, 4], &[5, 6, 7, 8], 10, 6), base);
        assert_ne!(tuple6(&seed, &[1, 2, 3, 4], &[5, 6, 7, 8], 9, 17), base);
    }
}
