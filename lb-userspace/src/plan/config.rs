//! What the planner is told beside the objects.
//!
//! Owns: the types. Must not know: where the values come from.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Whose source address is rewritten (S17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// A client's address is kept wherever its replies come back through this node.
    #[default]
    Preserve,
    /// As kube-proxy does, to the letter.
    KubeProxy,
}

/// The configuration a plan depends on; a change of it concerns every Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanConfig {
    /// `sourceAddress`.
    pub source_address: SourceAddress,
    /// `masqueradeAll`: pods' requests to cluster IPs are rewritten too.
    pub masquerade_all: bool,
    /// `allowServiceExternalIPs` (S7).
    pub allow_external_ips: bool,
    /// Whether clients outside may use cluster IPs (S20).
    pub serve_cluster_ips_outside: bool,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            source_address: SourceAddress::Preserve,
            masquerade_all: false,
            allow_external_ips: true,
            serve_cluster_ips_outside: true,
        }
    }
}

/// This node, as far as plans depend on it; a change of it concerns every Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    /// Its name, as endpoints give it (S3).
    pub name: String,
    /// Its zone (S10).
    pub zone: Option<String>,
    /// Every address of the host (S25).
    pub addresses: BTreeSet<IpAddr>,
}
