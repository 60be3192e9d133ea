//! A Node as the proxy sees it.
//!
//! Owns: the type. Must not know: which node is this one.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The label that names a node's zone (S10).
pub const TOPOLOGY_ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The taint with which the cluster autoscaler announces that it will delete a node (S41).
pub const TO_BE_DELETED_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its zone, from [`TOPOLOGY_ZONE_LABEL`]; an empty label is no zone.
    pub zone: Option<String>,
    /// Its internal addresses, in the object's order: the first of a family is the primary one (S30).
    pub internal_ips: Vec<IpAddr>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// It is being deleted, or tainted with [`TO_BE_DELETED_TAINT`]: load balancers should leave it (S41).
    pub leaving: bool,
}
