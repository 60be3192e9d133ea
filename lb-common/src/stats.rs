//! Map `service_stats`: per service port and CPU.

use bytemuck::{Pod, Zeroable};

/// What a service port carried, both directions.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ServiceStats {
    /// Packets rewritten.
    pub packets: u64,
    /// Bytes of them, frame headers included.
    pub bytes: u64,
    /// New flows.
    pub connections: u64,
    /// New connections rejected or dropped.
    pub refused: u64,
}
