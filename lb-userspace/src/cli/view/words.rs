//! Numbers as people write them.
//!
//! Owns: protocol names, addresses with ports, frontends, MACs, durations, bytes. Must not know: which view they stand in.

use std::net::{IpAddr, SocketAddr};

use lb_common::protocol;

/// A protocol's name, or its number.
pub(in crate::cli) fn protocol(number: u8) -> String {
    match number {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::SCTP => "SCTP".to_owned(),
        protocol::ICMP => "ICMP".to_owned(),
        protocol::ICMPV6 => "ICMPv6".to_owned(),
        other => other.to_string(),
    }
}

/// `address:port/PROTO`.
pub(super) fn socket(addr: SocketAddr, proto: u8) -> String {
    format!("{addr}/{}", protocol(proto))
}

/// A frontend; the unspecified address stands for every nodePort address of the node.
pub(in crate::cli) fn frontend(address: IpAddr, port: u16, protocol: &str) -> String {
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => format!("*:{port}/{protocol}"),
        IpAddr::V6(v6) if v6.is_unspecified() => format!("[*]:{port}/{protocol}"),
        _ => format!("{}/{protocol}", SocketAddr::new(address, port)),
    }
}

/// A hardware address.
pub(super) fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Seconds in the two largest units: `3h20m`, `45s`.
pub(super) fn seconds(total: u32) -> String {
    const UNITS: [(u32, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let Some(first) = UNITS.iter().position(|&(unit, _)| total >= unit) else {
        return "0s".to_owned();
    };
    let (unit, letter) = UNITS[first];
    let mut text = format!("{}{letter}", total / unit);
    if let Some(&(next, letter)) = UNITS.get(first + 1)
        && let rest @ 1.. = total % unit / next
    {
        text.push_str(&format!("{rest}{letter}"));
    }
    text
}

/// Bytes with a binary unit.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (total, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m1s"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (86_401, "1d"),
            (432_000, "5d"),
        ] {
            assert_eq!(seconds(total), expected);
        }
    }

    #[test]
    fn bytes_have_one_decimal() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
