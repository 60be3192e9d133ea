//! What a source tells the agent.
//!
//! Owns: the message. Must not know: which source sent it.

use super::{EndpointSlice, Node, Service, ServiceKey, SliceKey};

/// One change of the cluster. Sources deliver them in batches (`Vec<Update>`) that belong together; an
/// object that did not change is not delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The Service is new or different.
    ServiceApplied(Service),
    /// The Service is gone, or stopped being one the proxy serves.
    ServiceDeleted(ServiceKey),
    /// The slice is new or different; it may have changed its Service.
    SliceApplied(EndpointSlice),
    /// The slice is gone.
    SliceDeleted(SliceKey),
    /// The Node is new or different.
    NodeApplied(Node),
    /// The Node of this name is gone.
    NodeDeleted(String),
    /// Everything that existed at the start has been delivered: the datapath may be written (S11).
    /// Sent once, after the first list.
    InitialListsDone,
}
