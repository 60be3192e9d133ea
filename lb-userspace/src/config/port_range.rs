//! A range of ports, written `A-B`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Ports `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Kubernetes' default for nodePorts.
    pub const NODE_PORTS: Self = Self {
        first: 30_000,
        last: 32_767,
    };
    /// The ports above the kernel's default ip_local_port_range: no socket is given one unasked.
    pub const ABOVE_LOCAL: Self = Self {
        first: 61_000,
        last: 65_535,
    };

    /// The range, unless it is empty or holds port 0.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            None
        } else {
            Some(Self { first, last })
        }
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports; never 0, and at most 65535 because port 0 is in no range.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.last - self.first + 1
    }

    /// Whether a port is inside.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether the two share a port.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl From<PortRange> for RangeInclusive<u16> {
    fn from(range: PortRange) -> Self {
        range.first..=range.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || format!("{text:?} is no port range: two ports from 1 to 65535 are wanted, as in 30000-32767");
        let (first, last) = text.split_once('-').ok_or_else(wanted)?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| wanted());
        Self::new(port(first)?, port(last)?).ok_or_else(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_two_ports_in_order() {
        let cases = [
            ("30000-32767", Some((30000, 32767, 2768))),
            ("1-65535", Some((1, 65535, 65535))),
            ("80-80", Some((80, 80, 1))),
            ("0-10", None),
            ("32767-30000", None),
            ("30000", None),
            ("30000-65536", None),
            ("30000-", None),
            ("a-b", None),
            ("1-2-3", None),
        ];
        for (text, expected) in cases {
            let range = text.parse::<PortRange>().ok();
            assert_eq!(
                range.map(|r| (r.first(), r.last(), r.count())),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn ranges_that_touch_overlap() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        let cases = [
            ("10-20", "20-30", true),
            ("10-20", "21-30", false),
            ("10-30", "15-16", true),
            ("40-50", "10-39", false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(range(one).overlaps(range(other)), expected, "{one} {other}");
            assert_eq!(range(other).overlaps(range(one)), expected, "{other} {one}");
        }
    }
}
