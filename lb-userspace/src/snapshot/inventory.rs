//! What is installed, apart from what the maps hold.
//!
//! Owns: the plain data of `xvip get status`. Must not know: how it is found out.

/// What of xvip exists under one bpffs path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The path.
    pub bpffs: String,
    /// The layout version in the pin path.
    pub layout: u32,
    /// The maps, by name.
    pub maps: Vec<MapInfo>,
    /// The attached programs, by device and hook.
    pub links: Vec<Link>,
    /// The agent, when one runs.
    pub agent: Option<RunningAgent>,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Its name.
    pub name: String,
    /// How many entries it takes.
    pub capacity: u32,
}

/// A program attached to a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The device.
    pub device: String,
    /// Its number.
    pub ifindex: u32,
    /// `xdp`, `tc ingress` or `tc egress`.
    pub hook: String,
    /// How it is attached: `native`, `generic`, `tcx`, `clsact`; empty where unknown.
    pub mode: String,
}

/// The agent that holds the lock of a bpffs path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningAgent {
    /// Its process id, where it is visible from here.
    pub pid: Option<u32>,
}
