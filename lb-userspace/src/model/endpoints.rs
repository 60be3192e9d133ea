//! An EndpointSlice as the proxy sees it.
//!
//! Owns: the types. Must not know: which endpoints a frontend uses; that is the planner's (S12–S15).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use super::{IpFamily, Protocol, ServiceKey};

/// Names an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    /// The namespace, also that of the Service.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl SliceKey {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A port of a slice: where the Service port of the same name and protocol leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlicePort {
    /// The name of the Service port.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number the endpoints of this slice listen on.
    pub port: u16,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its first address, the only one that counts (S2).
    pub address: IpAddr,
    /// It accepts new connections; absent is true (S3).
    pub ready: bool,
    /// It answers, even if it is terminating; absent is true (S3).
    pub serving: bool,
    /// It is on its way out; absent is false (S3).
    pub terminating: bool,
    /// The node it runs on.
    pub node_name: Option<String>,
    /// The zones that should use it (S12); empty means no hint.
    pub zone_hints: BTreeSet<String>,
    /// The nodes that should use it (S12); empty means no hint.
    pub node_hints: BTreeSet<String>,
}

/// A slice of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its own name.
    pub key: SliceKey,
    /// The Service it belongs to, by label alone (S2).
    pub service: ServiceKey,
    /// The family of its addresses.
    pub family: IpFamily,
    /// Its ports, in ascending order.
    pub ports: Vec<SlicePort>,
    /// Its endpoints, in the object's order.
    pub endpoints: Vec<Endpoint>,
    /// When the oldest change of pods or Service that led to this version happened, where the controller says so (S42).
    pub triggered: Option<SystemTime>,
}
