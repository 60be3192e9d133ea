//! Version of everything in this crate that is stored in a map, and the maps' names.

/// Part of the pin path. Moves with any change of a map's type, key, value or meaning.
pub const VERSION: u32 = 1;

/// Maps by the names they are pinned under.
pub mod maps {
    /// [`crate::frontend`]
    pub const FRONTENDS: &str = "frontends";
    /// [`crate::service`]
    pub const SERVICES: &str = "services";
    /// [`crate::slot`]
    pub const SLOTS: &str = "slots";
    /// [`crate::backend`]
    pub const BACKENDS: &str = "backends";
    /// [`crate::flow`], IPv4
    pub const FLOWS4: &str = "flows4";
    /// [`crate::flow`], IPv6
    pub const FLOWS6: &str = "flows6";
    /// [`crate::source_range`]
    pub const SOURCE_RANGES: &str = "source_ranges";
    /// [`crate::affinity`]
    pub const AFFINITY: &str = "affinity";
    /// [`crate::node_addr`]
    pub const NODE_ADDRS: &str = "node_addrs";
    /// [`crate::prefilter`]
    pub const PREFILTER: &str = "prefilter";
    /// [`crate::device`]
    pub const DEVICES: &str = "devices";
    /// [`crate::stats`]
    pub const SERVICE_STATS: &str = "service_stats";
    /// [`crate::reason`], per CPU
    pub const REASONS: &str = "reasons";
    /// [`crate::settings`]
    pub const SETTINGS: &str = "settings";
    /// [`crate::name`]
    pub const NAMES: &str = "names";
    /// Writers' lock words of `flows4`, one a bucket.
    pub const LOCKS4: &str = "locks4";
    /// Writers' lock words of `flows6`.
    pub const LOCKS6: &str = "locks6";
    /// DEVMAP of devices able to take XDP frames.
    pub const TX_DEVICES: &str = "tx_devices";
    /// Token buckets of the reject stage, one a CPU.
    pub const REJECT_TOKENS: &str = "reject_tokens";
    /// Tail calls of the XDP programs.
    pub const XDP_STAGES: &str = "xdp_stages";
    /// Tail calls of the tc programs.
    pub const TC_STAGES: &str = "tc_stages";
}

/// Places in `xdp_stages` and `tc_stages`.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Flows whose state changes or is due for a refresh, and headers that are not plain, IPv4.
    Full4 = 0,
    /// The same, IPv6.
    Full6 = 1,
    /// RST or ICMP port unreachable, IPv4.
    Reject4 = 2,
    /// The same, IPv6.
    Reject6 = 3,
    /// A connection's first packet, IPv4.
    New4 = 4,
    /// The same, IPv6.
    New6 = 5,
}

impl Stage {
    /// Every stage with the names of its XDP and its tc program.
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Full4, "xdp_full4", "tc_full4"),
        (Self::Full6, "xdp_full6", "tc_full6"),
        (Self::Reject4, "xdp_reject4", "tc_reject4"),
        (Self::Reject6, "xdp_reject6", "tc_reject6"),
        (Self::New4, "xdp_new4", "tc_new4"),
        (Self::New6, "xdp_new6", "tc_new6"),
    ];
}

/// Programs by name, as attached.
pub mod programs {
    /// XDP of an uplink.
    pub const XDP_UPLINK: &str = "xdp_uplink";
    /// tc ingress of an uplink.
    pub const TC_UPLINK_INGRESS: &str = "tc_uplink_in";
    /// tc egress of an uplink.
    pub const TC_UPLINK_EGRESS: &str = "tc_uplink_out";
    /// tc ingress of a pod device.
    pub const TC_POD_INGRESS: &str = "tc_pod_in";
    /// tc egress of a pod device.
    pub const TC_POD_EGRESS: &str = "tc_pod_out";
    /// tc egress of the loopback device.
    pub const TC_LOOPBACK_EGRESS: &str = "tc_loopback_out";
    /// XDP pass, for the far ends of a test lab's wires and as empty program of benchmarks.
    pub const XDP_PASS: &str = "xdp_pass";
    /// Writes jiffies into `settings`: run once at load, never attached.
    pub const READ_JIFFIES: &str = "read_jiffies";
}

/// Globals patched at load time.
pub mod globals {
    /// [`crate::hash::Seed`]
    pub const SEED: &str = "SEED";
    /// Buckets of `flows4` minus one, u32.
    pub const FLOW4_MASK: &str = "FLOW4_MASK";
    /// Buckets of `flows6` minus one, u32.
    pub const FLOW6_MASK: &str = "FLOW6_MASK";
    /// u32
    pub const HZ: &str = "HZ";
    /// u32: [`HZ`], or 0 while the trace is to see every packet
    pub const FRESH_FOR: &str = "FRESH_FOR";
    /// [`crate::lifetime::Timeouts`] in jiffies
    pub const TIMEOUTS: &str = "TIMEOUTS";
    /// u32: first port | count << 16
    pub const SNAT_PORTS: &str = "SNAT_PORTS";
    /// [`crate::net::Net4`]
    pub const SERVICE_NET4: &str = "SERVICE_NET4";
    /// [`crate::net::Net6`]
    pub const SERVICE_NET6: &str = "SERVICE_NET6";
    /// [`crate::net::Net4`]
    pub const CLUSTER_NET4: &str = "CLUSTER_NET4";
    /// [`crate::net::Net6`]
    pub const CLUSTER_NET6: &str = "CLUSTER_NET6";
    /// u8: what aya-log's lines in the programs go by; 0 lets the verifier remove them all, absent means all of them
    pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
    /// u32
    pub const REJECTS_PER_SECOND: &str = "REJECTS_PER_SECOND";
}
