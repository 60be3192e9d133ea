//! Kernel settings of the network namespace: ports kept for us, and what must be switched on.
//!
//! Nothing is written for single devices but the loopback one: a packet whose source becomes the node's address is never handed
//! to the stack, so neither rp_filter nor accept_local is asked about it, unless it is for a socket of this host. Those are
//! received by the loopback device ([`accept_local`]).

use std::fs;
use std::io;

use crate::config::PortRange;

const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const ACCEPT_LOCAL: &str = "/proc/sys/net/ipv4/conf/lo/accept_local";

/// Keeps the kernel from giving ports of these ranges to sockets that ask for any port (S19). Idempotent; what others
/// reserved stays. Returns the ports that were not reserved before: what [`release_ports`] may take back one day.
///
/// # Errors
/// When the sysctl cannot be read or written.
pub fn reserve_ports(ranges: &[PortRange]) -> io::Result<Vec<PortRange>> {
    let before = parse(&fs::read_to_string(RESERVED_PORTS)?);
    let after = merge(&[before.as_slice(), ranges].concat());
    let added = subtract(&after, &before);
    if !added.is_empty() {
        fs::write(RESERVED_PORTS, render(&after))?;
    }
    Ok(added)
}

/// Takes reservations back.
///
/// # Errors
/// When the sysctl cannot be read or written.
pub fn release_ports(ranges: &[PortRange]) -> io::Result<()> {
    let before = parse(&fs::read_to_string(RESERVED_PORTS)?);
    let after = subtract(&before, ranges);
    if after == before {
        return Ok(());
    }
    fs::write(RESERVED_PORTS, render(&after))
}

/// Has the loopback device accept packets from addresses of this host that came another way (IPv4; IPv6 does not ask). What
/// sockets send each other over it carries its route along and is never asked. Returns whether it did not before.
///
/// # Errors
/// When the sysctl cannot be read or written.
pub fn accept_local() -> io::Result<bool> {
    let before = fs::read_to_string(ACCEPT_LOCAL)?;
    let changed = before.trim() == "0";
    if changed {
        fs::write(ACCEPT_LOCAL, "1\n")?;
    }
    Ok(changed)
}

/// Takes [`accept_local`] back.
///
/// # Errors
/// When the sysctl cannot be written.
pub fn refuse_local() -> io::Result<()> {
    fs::write(ACCEPT_LOCAL, "0\n")
}

/// What is not as a node needs it, in words.
#[must_use]
pub fn sysctl_warnings() -> Vec<String> {
    let files = [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward", "IPv4"),
        (
            "net.ipv6.conf.all.forwarding",
            "/proc/sys/net/ipv6/conf/all/forwarding",
            "IPv6",
        ),
    ];
    files
        .into_iter()
        .filter(|(_, path, _)| fs::read_to_string(path).is_ok_and(|value| value.trim() == "0"))
        .map(|(name, _, family)| {
            format!("{name} is 0: {family} packets to pods of this node are not forwarded")
        })
        .collect()
}

/// The ranges of `8080,9000-9010`. What does not parse is no port; the kernel writes nothing else.
fn parse(text: &str) -> Vec<PortRange> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        PortRange::new(first.parse().ok()?, last.parse().ok()?)
    });
    merge(&ranges.collect::<Vec<_>>())
}

fn render(ranges: &[PortRange]) -> String {
    let parts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    // The kernel takes an empty line, but not an empty write, as no ports.
    parts.join(",") + "\n"
}

/// The same ports in the fewest ranges, sorted.
fn merge(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if u32::from(range.first()) <= u32::from(last.last()) + 1 => {
                if let Some(joined) = PortRange::new(last.first(), last.last().max(range.last())) {
                    *last = joined;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// The ports of `from` that are in none of `ranges`.
fn subtract(from: &[PortRange], ranges: &[PortRange]) -> Vec<PortRange> {
    let mut left = merge(from);
    for gone in ranges {
        left = left
            .into_iter()
            .flat_map(|range| {
                if !range.overlaps(*gone) {
                    return [Some(range), None];
                }
                let below = PortRange::new(range.first(), (gone.first() - 1).min(range.last()));
                let above = gone
                    .last()
                    .checked_add(1)
                    .and_then(|first| PortRange::new(first.max(range.first()), range.last()));
                [below, above]
            })
            .flatten()
            .collect();
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_taken_apart() {
        // What is reserved, what is asked for, the union, and what the request added.
        let cases = [
            (
                "",
                "30000-32767,61000-65535",
                "30000-32767,61000-65535",
                "30000-32767,61000-65535",
            ),
            (
                "8080,9000-9010",
                "30000-32767",
                "8080-8080,9000-9010,30000-32767",
                "30000-32767",
            ),
            ("30000-32767", "30000-32767", "30000-32767", ""),
            ("30000-31000", "30500-32767", "30000-32767", "31001-32767"),
            (
                "31000-31010",
                "30000-32767",
                "30000-32767",
                "30000-30999,31011-32767",
            ),
            ("1-9,11-20", "10-10", "1-20", "10-10"),
            ("65535", "65000-65535", "65000-65535", "65000-65534"),
            ("1-65535", "61000-65535", "1-65535", ""),
        ];
        for (reserved, asked, union, added) in cases {
            let reserved = parse(&format!("{reserved}\n"));
            let after = merge(&[reserved.as_slice(), parse(asked).as_slice()].concat());
            assert_eq!(after, parse(union), "{asked}");
            assert_eq!(render(&after).trim(), union, "{asked}");
            assert_eq!(subtract(&after, &reserved), parse(added), "{asked}");
            assert_eq!(subtract(&after, &parse(added)), reserved, "{asked}");
        }
    }

    #[test]
    fn nothing_reserved_is_an_empty_line() {
        assert_eq!(render(&subtract(&parse("1-9"), &parse("1-9"))), "\n");
    }
}
