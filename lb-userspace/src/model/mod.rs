//! The domain types the agent works with, and how Kubernetes objects become them.
//!
//! Owns: what a Service, an EndpointSlice and a Node mean to a Service proxy, and the parse-or-report
//! functions from the API's objects ([`parse`]). Every source delivers these types as [`Update`]s and
//! shares the parsers, so a manifest on disk and a watch event mean the same.
//!
//! Must not know: files, the network, the clock, maps, or which source an object came from.

mod address;
mod endpoints;
mod node;
mod notice;
pub mod parse;
mod service;
mod update;

pub use address::{IpFamily, parse_ip_sloppy, parse_net_sloppy};
pub use endpoints::{Endpoint, EndpointSlice, SliceKey, SlicePort};
pub use node::{Node, TO_BE_DELETED_TAINT, TOPOLOGY_ZONE_LABEL};
pub use notice::{ObjectRef, Problem, Rejection, Skip};
pub use service::{
    DEFAULT_AFFINITY_TIMEOUT, Protocol, Service, ServiceKey, ServicePort, ServiceType, TrafficPolicy,
};
pub use update::Update;
