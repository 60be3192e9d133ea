//! Addresses and ranges as Kubernetes writes them.
//!
//! Owns: the IP families and the lenient parsers (S7). Must not know: which field an address came from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// An IP family; a dual-stack service exists once in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family of a range.
    #[must_use]
    pub fn of_net(net: IpNet) -> Self {
        Self::of(net.addr())
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Parses an address as kube-proxy does (S7): blanks around it and leading zeros in an IPv4 number are
/// allowed (and the number stays decimal), an IPv4-mapped IPv6 address is the IPv4 address.
#[must_use]
pub fn parse_ip_sloppy(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let Some((head, tail)) = text.rsplit_once(':') else {
        return ipv4_sloppy(text).map(IpAddr::V4);
    };
    let address: Ipv6Addr = if tail.contains('.') {
        format!("{head}:{}", ipv4_sloppy(tail)?).parse().ok()?
    } else {
        text.parse().ok()?
    };
    Some(IpAddr::V6(address).to_canonical())
}

/// Parses a range as kube-proxy does (S7): as [`parse_ip_sloppy`], and host bits are cut off.
#[must_use]
pub fn parse_net_sloppy(text: &str) -> Option<IpNet> {
    let (address, length) = text.trim().split_once('/')?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let mapped = address.contains(':');
    let address = parse_ip_sloppy(address)?;
    // `::ffff:a.b.c.d/n` counts its length in the IPv6 form.
    let length = if mapped && address.is_ipv4() {
        length.checked_sub(96)?
    } else {
        length
    };
    Some(IpNet::new(address, length).ok()?.trunc())
}

fn ipv4_sloppy(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S7.
    #[test]
    fn addresses_parse_as_leniently_as_kube_proxy_does() {
        let cases: &[(&str, Option<&str>)] = &[
            ("192.0.2.1", Some("192.0.2.1")),
            (" 192.0.2.1\t", Some("192.0.2.1")),
            ("010.000.02.001", Some("10.0.2.1")),
            ("192.0.2.256", None),
            ("192.0.2", None),
            ("192.0.2.1.1", None),
            ("+1.0.0.1", None),
            ("1..0.1", None),
            ("", None),
            ("banana", None),
            ("2001:db8::1", Some("2001:db8::1")),
            ("2001:0db8::0001 ", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("::ffff:192.00.02.01", Some("192.0.2.1")),
            ("fe80::1%eth0", None),
            ("2001:db8::1::2", None),
        ];
        for (text, expected) in cases {
            let expected: Option<IpAddr> = expected.map(|text| text.parse().unwrap());
            assert_eq!(parse_ip_sloppy(text), expected, "{text:?}");
        }
    }

    /// S7.
    #[test]
    fn ranges_lose_their_host_bits() {
        let cases: &[(&str, Option<&str>)] = &[
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            (" 10.1.2.3/8 ", Some("10.0.0.0/8")),
            ("010.1.2.3/16", Some("10.1.0.0/16")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::5/64", Some("2001:db8::/64")),
            ("::ffff:10.1.2.3/104", Some("10.0.0.0/8")),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
            ("300.0.0.0/8", None),
        ];
        for (text, expected) in cases {
            let expected: Option<IpNet> = expected.map(|text| text.parse().unwrap());
            assert_eq!(parse_net_sloppy(text), expected, "{text:?}");
        }
    }
}
