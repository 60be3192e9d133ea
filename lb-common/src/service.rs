//! Map `services`: immutable records a frontend points at. A change writes a new record and switches the frontends to it.

use bytemuck::{Pod, Zeroable};

/// A range of `slots`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct SlotRange {
    /// First slot.
    pub offset: u32,
    /// Number of slots; 0 means reject or drop, as the record's flags say.
    pub len: u32,
}

/// Bits of [`ServiceRecord::flags`].
pub mod flags {
    /// Clients in pods of this node get their source rewritten.
    pub const REWRITE_POD: u32 = 1;
    /// Clients in the host's own namespace get their source rewritten.
    pub const REWRITE_NODE: u32 = 2;
    /// Clients outside get their source rewritten even where the backend is local.
    pub const REWRITE_OUTSIDE: u32 = 4;
    /// An empty inside range means drop (S22), else reject (S21).
    pub const INSIDE_DROP: u32 = 8;
    /// An empty outside range means drop, else reject.
    pub const OUTSIDE_DROP: u32 = 16;
    /// The inside range holds the local list, else the cluster list (S33: affinity asks).
    pub const INSIDE_LOCAL_LIST: u32 = 32;
    /// The outside range holds the local list, else the cluster list.
    pub const OUTSIDE_LOCAL_LIST: u32 = 64;
    /// Packets to unknown ports of the address: no ranges, always reject (S24).
    pub const UNKNOWN_PORT: u32 = 128;
    /// The record of a ClusterIP: a host's socket that listens at the very address comes first (S45).
    pub const CLUSTER_IP: u32 = 256;
}

/// What to do with a new connection to a frontend.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ServiceRecord {
    /// For clients in pods and in the host's own namespace.
    pub inside: SlotRange,
    /// For all others.
    pub outside: SlotRange,
    /// The service port: key of affinity, statistics, names. 0 = free record.
    pub service: u32,
    /// Session affinity's idle timeout in seconds; 0 = none.
    pub affinity_seconds: u32,
    /// [`flags`].
    pub flags: u32,
    /// The algorithm that chooses: [`ALGORITHM_RANDOM`].
    pub algorithm: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Who may use the frontends: a set of [`crate::source_range`]; 0 = everybody.
    pub sources: u32,
    /// Zero: kept for weights and tunnels.
    pub reserved: [u32; 7],
}

/// A backend by an even random choice from the range.
pub const ALGORITHM_RANDOM: u8 = 0;

const _: () = assert!(size_of::<ServiceRecord>() == 64);
