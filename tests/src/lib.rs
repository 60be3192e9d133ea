//! The test lab: a cluster out of network namespaces, in one process and for one test.
//!
//! ```text
//!   client ──veth── wire (a bridge) ──veth── node ──veth── pod
//! ```
//!
//! [`topology`] puts [`netns`] and [`link`] together; [`server`], [`client`] and [`load`] make real traffic in it,
//! [`agent`] runs `xvip` on a node, [`capture`] looks at frames. Everything is removed on drop, whatever way the
//! test ends. [`demo`] is built on all of it; nothing
//! else in here knows what a Service is. Needs root.

pub mod agent;
pub mod apiserver;
pub mod bench;
pub mod capture;
pub mod child;
pub mod client;
pub mod cluster_lab;
pub mod demo;
pub mod ethtool;
pub mod host;
pub mod link;
pub mod load;
pub mod netns;
pub mod object;
pub mod packets;
pub mod pod;
pub mod poll;
pub mod programmed;
pub mod publish;
pub mod scenario;
pub mod scratch;
pub mod server;
pub mod topology;
pub mod xdp_pass;
