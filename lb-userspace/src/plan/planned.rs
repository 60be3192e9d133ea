//! What a Service should have in the maps.
//!
//! Owns: the types between planner and reconciler. Must not know: how a plan comes about, map indices.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use ipnet::IpNet;
use lb_common::frontend::FrontendKey;

use crate::model::{IpFamily, Problem, Protocol, ServiceKey};

/// Names one port of a Service in one family: the unit of affinity, statistics and backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortKey {
    /// The Service.
    pub service: ServiceKey,
    /// The port's name; empty when it has none.
    pub port_name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port's number at the cluster IP.
    pub port: u16,
    /// The family.
    pub family: IpFamily,
}

impl fmt::Display for ServicePortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.service)?;
        if !self.port_name.is_empty() {
            write!(f, ":{}", self.port_name)?;
        }
        write!(f, " ({} {}, {})", self.port, self.protocol, self.family)
    }
}

/// Everything a Service should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// When the Service was created: decides between claimants of one frontend (S46).
    pub created: Option<SystemTime>,
    /// Its ports in each family, in ascending order of their keys.
    pub ports: Vec<PlannedServicePort>,
    /// Parts of the Service that are not served, and why.
    pub warnings: Vec<Problem>,
}

/// Everything one service port should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedServicePort {
    /// Its name.
    pub key: ServicePortKey,
    /// Where it is reached, and by which record.
    pub frontends: BTreeMap<FrontendKey, RecordRole>,
    /// The record of the cluster IP.
    pub cluster: PlannedRecord,
    /// The record of nodePort, external and load-balancer addresses, if it has any.
    pub external: Option<PlannedRecord>,
    /// Who may use the frontends of [`RecordRole::Restricted`]: networks, without host bits. Empty when there are none.
    pub sources: BTreeSet<IpNet>,
    /// Every endpoint that is in one of the lists its records use.
    pub backends: BTreeMap<SocketAddr, PlannedBackend>,
    /// Every endpoint the slices name, used or not.
    pub endpoints: BTreeMap<SocketAddr, EndpointState>,
    /// Idle timeout of session affinity (S32); 0 = none.
    pub affinity_seconds: u32,
}

/// Which of a service port's records a frontend points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordRole {
    /// [`PlannedServicePort::cluster`].
    Cluster,
    /// [`PlannedServicePort::external`].
    External,
    /// [`PlannedServicePort::external`], for clients in [`PlannedServicePort::sources`] alone (S23): load-balancer addresses (S27).
    Restricted,
    /// The one that rejects packets to ports the address does not have (S24). Several Services may claim it for one
    /// address without being in each other's way.
    UnknownPort,
}

/// The content of a service record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRecord {
    /// For pods and this node.
    pub inside: PlannedList,
    /// For everybody else.
    pub outside: PlannedList,
    /// Whose source is rewritten even where it need not be.
    pub rewrite: Rewrite,
}

/// A list of endpoints that clients of one kind get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedList {
    /// Which list it is.
    pub list: EndpointList,
    /// Its endpoints, in ascending order.
    pub endpoints: Vec<SocketAddr>,
    /// What happens to a new connection when there is none.
    pub when_empty: EmptyVerdict,
}

/// The two lists of S13 and S14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointList {
    /// The cluster list.
    Cluster,
    /// The local list.
    Local,
}

/// What becomes of a new connection for which there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyVerdict {
    /// Answered with RST or port unreachable (S21).
    Reject,
    /// Dropped (S22).
    Drop,
}

/// Whose source address is rewritten whichever backend is chosen. A client that is chosen as its own backend (S18), and
/// one from outside that gets a backend elsewhere, are rewritten in any case: that is the kernel's own rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Pods of this cluster.
    pub pod: bool,
    /// This node itself.
    pub node: bool,
    /// Everybody else.
    pub outside: bool,
}

/// An endpoint that new connections may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedBackend {
    /// It runs on this node.
    pub local: bool,
    /// It is in the cluster list, and a record uses that.
    pub in_cluster_list: bool,
    /// It is in the local list, and a record uses that.
    pub in_local_list: bool,
}

/// What matters of an endpoint for the flows it has (S35, S37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// It answers.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_reads_as_its_service_its_name_and_where_it_is() {
        let key = |port_name: &str| ServicePortKey {
            service: ServiceKey::new("shop", "web"),
            port_name: port_name.to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            family: IpFamily::V6,
        };
        assert_eq!(key("http").to_string(), "shop/web:http (80 TCP, IPv6)");
        assert_eq!(key("").to_string(), "shop/web (80 TCP, IPv6)");
    }
}
