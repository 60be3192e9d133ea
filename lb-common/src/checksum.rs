//! Internet checksum arithmetic (RFC 1071, RFC 1624), incremental only: nothing here reads a packet.
//!
//! One's complement sums do not depend on byte order, so all values are the header's bytes loaded as native words.

/// What a rewrite adds to a checksummed sum: `Σ ~old + Σ new`, folded to 16 bits. Adding it to the complement of a
/// checksum and complementing again is equation 3 of RFC 1624, for any number of words at once.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let mut s = (sum & 0xffff) + ((sum >> 16) & 0xffff) + ((sum >> 32) & 0xffff) + (sum >> 48);
    s = (s & 0xffff) + (s >> 16);
    s = (s & 0xffff) + (s >> 16);
    s as u16
}

/// The checksum after `delta` has been added to what it covers.
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, delta: u16) -> u16 {
    let mut s = (!checksum) as u32 + delta as u32;
    s = (s & 0xffff) + (s >> 16);
    !(s as u16)
}

/// The sum of two deltas.
#[inline(always)]
#[must_use]
pub const fn add(a: u16, b: u16) -> u16 {
    let s = a as u32 + b as u32;
    ((s & 0xffff) + (s >> 16)) as u16
}

/// The delta that undoes `delta`.
#[inline(always)]
#[must_use]
pub const fn negate(delta: u16) -> u16 {
    !delta
}

/// The UDP checksum after `delta`: zero means "none" and stays, and a sum that comes out zero is sent as all ones (RFC 768).
#[inline(always)]
#[must_use]
pub const fn update_udp(checksum: u16, delta: u16) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match update(checksum, delta) {
        0 => 0xffff,
        other => other,
    }
}

/// What decrementing the TTL adds to the sum of an IPv4 header: the word {TTL, protocol} loses 0x0100 in network order.
pub const TTL_DELTA: u16 = !(0x0100_u16.to_be());

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::addr::{Addr4, Addr6, Address};
    use etherparse::{Ipv4Header, PacketBuilder};
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::vec::Vec;

    #[test]
    fn an_updated_ipv4_header_checksum_is_the_one_etherparse_computes() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..2000 {
            let (old, new): ([u8; 8], [u8; 8]) = (rng.random(), rng.random());
            let mut header = Ipv4Header::new(
                rng.random_range(0..1000),
                rng.random_range(2..=255),
                6.into(),
                old[..4].try_into().unwrap(),
                old[4..].try_into().unwrap(),
            )
            .unwrap();
            let before = header.calc_header_checksum();
            header.source = new[..4].try_into().unwrap();
            header.destination = new[4..].try_into().unwrap();
            header.time_to_live -= 1;
            let w = |b: &[u8]| Addr4(u32::from_ne_bytes(b.try_into().unwrap()));
            let mut acc = w(&old[..4]).sum_complement(0);
            acc = w(&old[4..]).sum_complement(acc);
            acc = w(&new[..4]).sum(acc);
            acc = w(&new[4..]).sum(acc);
            let got = update(update(before.to_be(), fold(acc)), TTL_DELTA);
            assert_eq!(u16::from_be(got), header.calc_header_checksum());
        }
    }

    #[test]
    fn an_updated_udp6_checksum_is_the_one_etherparse_computes() {
        let mut rng = StdRng::seed_from_u64(2);
        for _ in 0..2000 {
            let addresses: [[u8; 16]; 4] = rng.random();
            let ports: [u16; 4] = rng.random();
            let payload: [u8; 12] = rng.random();
            let checksum = |s: usize, d: usize| {
                let mut out = Vec::new();
                PacketBuilder::ipv6(addresses[s], addresses[d], 64)
                    .udp(ports[s], ports[d])
                    .write(&mut out, &payload)
                    .unwrap();
                u16::from_ne_bytes([out[46], out[47]])
            };
            let w = |b: [u8; 16]| Addr6(bytemuck::cast(b));
            let mut acc = w(addresses[0]).sum_complement(0);
            acc = w(addresses[1]).sum_complement(acc);
            acc = w(addresses[2]).sum(acc);
            acc = w(addresses[3]).sum(acc);
            let by_addresses = fold(acc);
            let by_ports = fold(
                (0..2)
                    .map(|i| u64::from(!ports[i].to_be()) + u64::from(ports[i + 2].to_be()))
                    .sum(),
            );
            let there = update_udp(checksum(0, 1), add(by_addresses, by_ports));
            assert_eq!(there, checksum(2, 3));
            assert_eq!(
                update_udp(there, add(negate(by_addresses), negate(by_ports))),
                checksum(0, 1)
            );
        }
    }

    #[test]
    fn udp_without_a_checksum_stays_without() {
        assert_eq!(update_udp(0, 0x1234), 0);
    }

    #[test]
    fn a_udp_sum_of_zero_is_sent_as_all_ones() {
        assert_eq!(update_udp(0x1234, 0x1234), 0xffff);
    }
}
