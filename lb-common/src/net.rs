//! A range of addresses as the programs test for it: that of ClusterIPs (S24), that of the cluster's pods (S17). One of each family.

use crate::addr::{Addr4, Addr6};

/// IPv4: the network and its mask, as words of a packet.
pub type Net4 = [u32; 2];
/// IPv6: the network's four words, then the mask's.
pub type Net6 = [u32; 8];

/// No address is in it: of no address anything is left that a mask has cleared.
pub const NONE4: Net4 = [1, 0];
/// The same for IPv6.
pub const NONE6: Net6 = [1, 0, 0, 0, 0, 0, 0, 0];

/// The range of an address and the length of its prefix.
#[must_use]
pub fn net4(addr: Addr4, prefix: u8) -> Net4 {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0).to_be();
    [addr.0 & mask, mask]
}

/// The same for IPv6.
#[must_use]
pub fn net6(addr: Addr6, prefix: u8) -> Net6 {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    let word = |shift: u32| ((mask >> shift) as u32).to_be();
    let [m0, m1, m2, m3] = [word(96), word(64), word(32), word(0)];
    let [a, b, c, d] = addr.0;
    [a & m0, b & m1, c & m2, d & m3, m0, m1, m2, m3]
}

/// Whether an address is in the range.
#[inline(always)]
#[must_use]
pub const fn contains4(net: Net4, addr: Addr4) -> bool {
    let [net, mask] = net;
    addr.0 & mask == net
}

/// The same for IPv6. The first words are compared first: they tell most addresses apart.
#[inline(always)]
#[must_use]
pub const fn contains6(net: &Net6, addr: Addr6) -> bool {
    let [n0, n1, n2, n3, m0, m1, m2, m3] = *net;
    let [a, b, c, d] = addr.0;
    a & m0 == n0 && b & m1 == n1 && c & m2 == n2 && d & m3 == n3
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn v4(text: &str) -> Addr4 {
        Addr4::from(text.parse::<Ipv4Addr>().unwrap())
    }

    fn v6(text: &str) -> Addr6 {
        Addr6::from(text.parse::<Ipv6Addr>().unwrap())
    }

    #[test]
    fn a_range_holds_its_first_and_last_address_and_no_neighbour() {
        for (net, prefix, inside, outside) in [
            (
                "10.96.0.0",
                12,
                ["10.96.0.0", "10.111.255.255"],
                ["10.95.255.255", "10.112.0.0"],
            ),
            (
                "10.96.7.0",
                30,
                ["10.96.7.0", "10.96.7.3"],
                ["10.96.6.255", "10.96.7.4"],
            ),
            (
                "10.96.7.1",
                32,
                ["10.96.7.1", "10.96.7.1"],
                ["10.96.7.0", "10.96.7.2"],
            ),
        ] {
            let range = net4(v4(net), prefix);
            for addr in inside {
                assert!(contains4(range, v4(addr)), "{addr} in {net}/{prefix}");
            }
            for addr in outside {
                assert!(!contains4(range, v4(addr)), "{addr} in {net}/{prefix}");
            }
        }
        for (net, prefix, inside, outside) in [
            (
                "fd00:96::",
                108,
                ["fd00:96::", "fd00:96::f:ffff"],
                ["fd00:95::", "fd00:96::10:0"],
            ),
            (
                "fd00:96::",
                64,
                ["fd00:96::", "fd00:96::ffff:0:0:1"],
                ["fd00:96:0:1::", "fd01:96::"],
            ),
            (
                "fd00:96::7",
                128,
                ["fd00:96::7", "fd00:96::7"],
                ["fd00:96::6", "fd00:96::8"],
            ),
        ] {
            let range = net6(v6(net), prefix);
            for addr in inside {
                assert!(contains6(&range, v6(addr)), "{addr} in {net}/{prefix}");
            }
            for addr in outside {
                assert!(!contains6(&range, v6(addr)), "{addr} in {net}/{prefix}");
            }
        }
    }

    #[test]
    fn a_prefix_of_no_length_holds_every_address_and_none_holds_none() {
        for addr in ["0.0.0.0", "10.96.0.1", "255.255.255.255", "1.0.0.0"] {
            assert!(contains4(net4(v4("0.0.0.0"), 0), v4(addr)));
            assert!(!contains4(NONE4, v4(addr)));
        }
        for addr in ["::", "100::", "fd00:96::1"] {
            assert!(contains6(&net6(v6("::"), 0), v6(addr)));
            assert!(!contains6(&NONE6, v6(addr)));
        }
    }
}
