//! Map `settings`: what one generation of the datapath was made with. Read back before programs are loaded: another seed or
//! size would lose every flow.

use crate::hash::Seed;
use crate::lifetime::Timeouts;
use bytemuck::{Pod, Zeroable};

/// The one entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Settings {
    /// [`crate::layout::VERSION`]; 0 = never written.
    pub layout: u32,
    /// Ticks a second of jiffies, measured.
    pub hz: u32,
    /// Jiffies (64 bits) at `monotonic_ns`: turns last-seen stamps into ages.
    pub jiffies: u64,
    /// CLOCK_MONOTONIC when `jiffies` was read, nanoseconds.
    pub monotonic_ns: u64,
    /// Seed of the flow table's hash.
    pub seed: Seed,
    /// Buckets of `flows4`, a power of two.
    pub flow4_buckets: u32,
    /// Buckets of `flows6`, a power of two.
    pub flow6_buckets: u32,
    /// First port of `snatPortRange`.
    pub snat_port_first: u16,
    /// Number of ports of `snatPortRange`.
    pub snat_port_count: u16,
    /// Idle times, in seconds.
    pub timeouts: Timeouts,
    /// RSTs and ICMP errors a second and CPU.
    pub rejects_per_second: u32,
}

const _: () = assert!(size_of::<Settings>() == 8 + 16 + 40 + 8 + 4 + 24 + 4);
