//! How many entries the maps hold.
//!
//! Owns: the defaults, which follow the node's memory because every map counts against the agent's cgroup.

use lb_common::flow::{FlowEntry4, FlowEntry6};

/// Entries of each map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Entries of `flows4`, a power of two; every connection takes two.
    pub flow_entries4: u32,
    /// Entries of `flows6`, a power of two; every connection takes two.
    pub flow_entries6: u32,
    /// Service ports, each family counted for itself.
    pub services: u32,
    /// Endpoints of service ports.
    pub backends: u32,
    /// Places in the lists of endpoints.
    pub slots: u32,
    /// Addresses and ports of Services.
    pub frontends: u32,
    /// Remembered clients.
    pub affinity_entries: u32,
    /// Ranges of clients that Services are restricted to, each service port and family counted for itself.
    pub source_ranges: u32,
}

/// The part of the node's memory that the two flow tables take together: 32 MiB on a node of 8 GiB, for as many IPv4
/// connections as kube-proxy wants conntrack to hold at least.
const FLOW_SHARE: u64 = 256;
/// Never fewer IPv4 flow entries by default.
const MIN_FLOW_ENTRIES: u64 = 1 << 16;
/// Never more by default: a million connections; who has more says so.
const MAX_FLOW_ENTRIES: u64 = 1 << 21;
/// From here on a node counts as large enough for a full cluster's Services.
const FULL_SIZE_MEMORY: u64 = 2 << 30;

impl MapSizes {
    /// The defaults on a node with this many bytes of memory.
    #[must_use]
    pub fn for_memory(bytes: u64) -> Self {
        // Half as many for IPv6, whose entries are twice as large: the same memory for each.
        let each = (size_of::<FlowEntry4>() + size_of::<FlowEntry6>() / 2) as u64;
        let entries = (bytes / FLOW_SHARE / each).clamp(MIN_FLOW_ENTRIES, MAX_FLOW_ENTRIES);
        // The power of two at or below; fits because the clamp is far below u32::MAX.
        let flow_entries4 = 1u32 << entries.ilog2();
        let shrink = if bytes < FULL_SIZE_MEMORY { 4 } else { 1 };
        Self {
            flow_entries4,
            flow_entries6: flow_entries4 / 2,
            services: 32_768 / shrink,
            backends: 262_144 / shrink,
            slots: 1_048_576 / shrink,
            frontends: 131_072 / shrink,
            affinity_entries: 131_072 / shrink,
            source_ranges: 65_536 / shrink,
        }
    }
}

/// The node's memory in bytes, from the text of `/proc/meminfo`.
pub(super) fn memory_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_tables_follow_memory_within_bounds() {
        let cases = [
            (512 << 20, 65_536, 32_768, 8_192),
            (8 << 30, 262_144, 131_072, 32_768),
            (24 << 30, 524_288, 262_144, 32_768),
            (1 << 40, 2_097_152, 1_048_576, 32_768),
        ];
        for (memory, flow_entries4, flow_entries6, services) in cases {
            let sizes = MapSizes::for_memory(memory);
            let found = (sizes.flow_entries4, sizes.flow_entries6, sizes.services);
            assert_eq!(found, (flow_entries4, flow_entries6, services), "{memory}");
        }
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(
            memory_of_meminfo("MemFree: 1 kB\nMemTotal:       24684092 kB\n"),
            Some(24_684_092 * 1024)
        );
        assert_eq!(memory_of_meminfo("MemFree: 1 kB\n"), None);
    }
}
