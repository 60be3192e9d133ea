//! A cluster that serves: the lab's nodes and pods with servers, its objects in a directory or an API server, and `xvip agent` on
//! the nodes.
//!
//! [`ClusterLab`] builds and changes it; [`service`] writes the manifests of Services whose addresses a test knows
//! beforehand; [`conversation`] has the clients that one-shot calls are not enough for; [`netfilter`] puts
//! rules in the way.
//!
//! Must not know: what a test claims about any of it.

pub mod conversation;
mod lab;
pub mod netfilter;
pub(crate) mod objects;
pub mod service;

pub use lab::{ClusterLab, ObjectSource, Shape};
pub use service::{Endpoint, Service};
