//! A Service, its slices and this node, for tests.

use std::collections::BTreeSet;

use crate::model::{
    Endpoint, EndpointSlice, IpFamily, Protocol, Service, ServiceKey, ServicePort, ServiceType, SliceKey,
    SlicePort, TrafficPolicy,
};

use super::ThisNode;

pub(crate) fn this_node() -> ThisNode {
    ThisNode {
        name: "node-1".into(),
        zone: Some("zone-a".into()),
        addresses: ["172.18.0.2".parse().unwrap()].into(),
    }
}

/// A ready endpoint on another node.
pub(crate) fn ep(address: &str) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some("node-2".into()),
        zone_hints: BTreeSet::new(),
        node_hints: BTreeSet::new(),
    }
}

/// A slice of `shop/web` with the port `http` at 8080.
pub(crate) fn slice(name: &str, endpoints: &[Endpoint]) -> EndpointSlice {
    EndpointSlice {
        key: SliceKey::new("shop", name),
        service: ServiceKey::new("shop", "web"),
        family: IpFamily::V4,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: endpoints.to_vec(),
        triggered: None,
    }
}

/// `shop/web` at 10.96.0.10:80.
pub(crate) fn service() -> Service {
    Service {
        key: ServiceKey::new("shop", "web"),
        uid: String::new(),
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        external_ips: Vec::new(),
        load_balancer_vips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        session_affinity: None,
        health_check_node_port: None,
        created: None,
        excluded: false,
    }
}

/// [`ep`] on this node.
pub(crate) fn here(address: &str) -> Endpoint {
    Endpoint {
        node_name: Some("node-1".into()),
        ..ep(address)
    }
}
