//! Map `backends`: the endpoints of service ports, by index.

use crate::addr::Addr;
use crate::port::Port;
use bytemuck::{Pod, Zeroable};

/// The endpoint is on this node.
pub const LOCAL: u8 = 1;
/// It is in the service's cluster list now (S13).
pub const IN_CLUSTER_LIST: u8 = 2;
/// It is in the service's local list now (S14).
pub const IN_LOCAL_LIST: u8 = 4;

/// It was terminating when it was last seen. For the agent alone: one that was restarted meanwhile still tells the clients of
/// an endpoint that is gone (S37).
pub const TERMINATING: u8 = 8;

/// An endpoint of one service port. An index is used again only when no flow names it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Backend {
    /// Where it listens.
    pub addr: Addr,
    /// Even: alive. Odd: dead. Flows are good while theirs is equal.
    pub generation: u32,
    /// Moves each time the endpoint leaves a list, so that affinity forgets it (S33). Costs no flow.
    pub epoch: u32,
    /// The service port it belongs to; 0 = the index is free.
    pub service: u32,
    /// Where it listens.
    pub port: Port,
    /// Protocol number.
    pub proto: u8,
    /// [`LOCAL`], [`IN_CLUSTER_LIST`], [`IN_LOCAL_LIST`], [`TERMINATING`].
    pub flags: u8,
}

const _: () = assert!(size_of::<Backend>() == 32);
