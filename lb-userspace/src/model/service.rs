//! A Service as the proxy sees it.
//!
//! Owns: the type and its small enums. Must not know: endpoints, this node, defaults the API server applies.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::IpFamily;

/// How long an idle client is remembered when the manifest does not say (S32).
pub const DEFAULT_AFFINITY_TIMEOUT: Duration = Duration::from_secs(10_800);

/// Names a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ServiceKey {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the Service is reachable by, beside its cluster IPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// Cluster IPs (and external IPs) only.
    ClusterIp,
    /// Node ports too.
    NodePort,
    /// Load-balancer addresses too.
    LoadBalancer,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        })
    }
}

/// A transport protocol a Service port may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of an API object; absent means TCP (S4).
    #[must_use]
    pub fn from_api(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// Whether endpoints of other nodes may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Endpoints of this node.
    Local,
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        })
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The port's name, empty when the only port has none; slices are matched by it (S4).
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the cluster IPs, external and load-balancer addresses.
    pub port: u16,
    /// The port of the node's addresses, when one is allocated.
    pub node_port: Option<u16>,
}

/// A Service that has frontends. Headless, ExternalName and foreign-proxy Services never become one (S26).
///
/// Addresses of both families live side by side: which of them count is decided per family by the
/// planner, because a family without a cluster IP has no frontends at all (S6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub key: ServiceKey,
    /// `metadata.uid`; empty where the source gives none.
    pub uid: String,
    /// Its type.
    pub service_type: ServiceType,
    /// Its cluster IPs, the primary one first; one for each family at most.
    pub cluster_ips: Vec<IpAddr>,
    /// Its ports, in the manifest's order.
    pub ports: Vec<ServicePort>,
    /// External addresses the user routes to the nodes, in ascending order.
    pub external_ips: Vec<IpAddr>,
    /// Load-balancer addresses of mode `VIP` (S8), in ascending order.
    pub load_balancer_vips: Vec<IpAddr>,
    /// Who may use the load-balancer addresses; see S27, S28. Empty means everybody.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// The policy of the cluster IPs.
    pub internal_traffic_policy: TrafficPolicy,
    /// The policy of node ports, load-balancer and external addresses.
    pub external_traffic_policy: TrafficPolicy,
    /// The idle timeout of client affinity, when it is on.
    pub session_affinity: Option<Duration>,
    /// The port of the health check a load balancer asks (S40): type LoadBalancer with a Local policy only.
    pub health_check_node_port: Option<u16>,
    /// When the object was created: the older of two claimants of an address wins (S46).
    pub created: Option<SystemTime>,
    /// Annotated `xvip.dev/exclude: "true"`: left to the host (S45).
    pub excluded: bool,
}

impl Service {
    /// The cluster IP of one family.
    #[must_use]
    pub fn cluster_ip(&self, family: IpFamily) -> Option<IpAddr> {
        self.cluster_ips
            .iter()
            .copied()
            .find(|&ip| IpFamily::of(ip) == family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SliceKey;

    #[test]
    fn names_are_the_apis() {
        let types = [
            ServiceType::ClusterIp,
            ServiceType::NodePort,
            ServiceType::LoadBalancer,
        ];
        assert_eq!(
            types.map(|kind| kind.to_string()),
            ["ClusterIP", "NodePort", "LoadBalancer"]
        );
        let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local];
        assert_eq!(policies.map(|policy| policy.to_string()), ["Cluster", "Local"]);
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            assert_eq!(Protocol::from_api(Some(&protocol.to_string())), Some(protocol));
        }
        assert_eq!(IpFamily::ALL.map(|family| family.to_string()), ["IPv4", "IPv6"]);
        assert_eq!(SliceKey::new("shop", "web-1").to_string(), "shop/web-1");
    }
}
