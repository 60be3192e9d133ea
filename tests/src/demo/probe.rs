//! Who may call what, and who should answer: the demo's own, slow reading of the rules, against which the traffic is
//! judged.
//!
//! Owns: frontends, their usable endpoints by caller and entry node, pure. Must not know: how calls are made, maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use lb_userspace::model::{
    self, Endpoint, EndpointSlice, IpFamily, Service, ServiceKey, ServicePort, TrafficPolicy,
};
use serde::Serialize;

use super::slices::node_name;
use crate::server::Protocol;

/// The lab, as far as calls depend on it. Addresses are IPv4 first.
#[derive(Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<[IpAddr; 2]>,
    pub(super) client: [IpAddr; 2],
    /// One calling pod a node.
    pub(super) callers: Vec<[IpAddr; 2]>,
    /// Whose address is whose.
    pub(super) pods: BTreeMap<IpAddr, String>,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallerId {
    /// The client outside.
    Client,
    /// The calling pod of a node.
    Pod(u8),
}

/// What kind of address is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum FrontendKind {
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    #[serde(rename = "externalIP")]
    ExternalIp,
    LoadBalancer,
}

/// An address and port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frontend {
    pub(super) service: ServiceKey,
    pub(super) port: ServicePort,
    pub(super) kind: FrontendKind,
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
}

/// Calls to make, and what should become of them.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) frontend: Frontend,
    pub(super) caller: CallerId,
    /// The node that decides.
    pub(super) entry: u8,
    pub(super) expect: Expect,
}

/// What should come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expect {
    Answer {
        /// Any of these, with their names.
        endpoints: BTreeMap<SocketAddr, String>,
        /// The endpoint must see the caller's own address.
        keeps_address: bool,
        /// All calls of one caller reach one endpoint.
        affinity: bool,
    },
    /// Nobody is there, and the caller is told at once (S21).
    Refused,
}

/// What there is to call.
#[derive(Debug, Default)]
pub(super) struct Probes {
    pub(super) probes: Vec<Probe>,
    /// Through which node the client should send to an address.
    pub(super) routes: BTreeMap<IpAddr, u8>,
    /// What is not called, and why.
    pub(super) notes: BTreeSet<String>,
}

/// Everything there is to call.
pub(super) fn probes(services: &[Service], slices: &[EndpointSlice], world: &World) -> Probes {
    let mut found = Probes::default();
    for service in services.iter().filter(|service| !service.excluded) {
        for family in IpFamily::ALL {
            let Some(cluster_ip) = service.cluster_ip(family) else {
                continue;
            };
            for port in &service.ports {
                let Some(protocol) = protocol(port.protocol) else {
                    found
                        .notes
                        .insert(format!("{} port {}: SCTP is not called", service.key, port.port));
                    continue;
                };
                let view = PortView {
                    service,
                    port,
                    protocol,
                    family,
                    endpoints: usable(service, port, family, slices),
                    world,
                };
                view.add(cluster_ip, &mut found);
            }
        }
    }
    found
}

/// A Service port in one family.
struct PortView<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    protocol: Protocol,
    family: IpFamily,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
    world: &'a World,
}

impl PortView<'_> {
    fn add(&self, cluster_ip: IpAddr, found: &mut Probes) {
        let stranger = self
            .endpoints
            .keys()
            .find(|endpoint| !self.world.pods.contains_key(&endpoint.ip()));
        if let Some(endpoint) = stranger {
            found.notes.insert(format!(
                "{} port {}: not called, its endpoint {endpoint} is outside the lab",
                self.service.key, self.port.port
            ));
            return;
        }
        self.address(FrontendKind::ClusterIp, cluster_ip, found);
        let of_family = |ip: &&IpAddr| IpFamily::of(**ip) == self.family;
        for &ip in self.service.external_ips.iter().filter(of_family) {
            self.address(FrontendKind::ExternalIp, ip, found);
        }
        for &ip in self.service.load_balancer_vips.iter().filter(of_family) {
            self.address(FrontendKind::LoadBalancer, ip, found);
        }
        if let Some(node_port) = self.port.node_port {
            for (node, addresses) in (0..).zip(&self.world.nodes) {
                let to = SocketAddr::new(self.pick(addresses), node_port);
                self.call(FrontendKind::NodePort, to, CallerId::Client, node, found);
            }
        }
    }

    /// An address that is no node's: called from everywhere, by the client through a node that may answer.
    fn address(&self, kind: FrontendKind, ip: IpAddr, found: &mut Probes) {
        let to = SocketAddr::new(ip, self.port.port);
        let entry = *found
            .routes
            .entry(ip)
            .or_insert_with(|| self.announcing_node(kind));
        self.call(kind, to, CallerId::Client, entry, found);
        for (node, _) in (0..).zip(&self.world.callers) {
            if kind != FrontendKind::ExternalIp {
                self.call(kind, to, CallerId::Pod(node), node, found);
            }
        }
    }

    /// What announces addresses (a cloud's load balancer, BGP) asks only nodes with endpoints when the policy is Local.
    fn announcing_node(&self, kind: FrontendKind) -> u8 {
        let local = self.policy(kind, CallerId::Client) == TrafficPolicy::Local;
        (0..)
            .zip(&self.world.nodes)
            .map(|(node, _)| node)
            .find(|&node| !local || self.endpoints.values().any(|endpoint| is_on(endpoint, node)))
            .unwrap_or_default()
    }

    fn call(&self, kind: FrontendKind, to: SocketAddr, caller: CallerId, entry: u8, found: &mut Probes) {
        let source = match caller {
            CallerId::Client => self.pick(&self.world.client),
            CallerId::Pod(node) => self.pick(&self.world.callers[usize::from(node)]),
        };
        if kind == FrontendKind::LoadBalancer && !self.admits(source) {
            found.notes.insert(format!(
                "{} {to}: not called from {source}, which loadBalancerSourceRanges keeps out",
                self.service.key
            ));
            return;
        }
        let local = self.policy(kind, caller) == TrafficPolicy::Local;
        let endpoints: BTreeMap<_, _> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| !local || is_on(endpoint, entry))
            .map(|(address, _)| (*address, self.world.pods[&address.ip()].clone()))
            .collect();
        if endpoints.is_empty() && !self.endpoints.is_empty() {
            found.notes.insert(format!(
                "{} {to}: not called through {}, where its policy Local has no endpoint",
                self.service.key,
                node_name(entry)
            ));
            return;
        }
        let expect = if endpoints.is_empty() {
            Expect::Refused
        } else {
            Expect::Answer {
                endpoints,
                keeps_address: match caller {
                    CallerId::Client => kind != FrontendKind::ClusterIp && local,
                    CallerId::Pod(_) => kind == FrontendKind::ClusterIp,
                },
                affinity: self.service.session_affinity.is_some(),
            }
        };
        found.probes.push(Probe {
            frontend: Frontend {
                service: self.service.key.clone(),
                port: self.port.clone(),
                kind,
                to,
                protocol: self.protocol,
            },
            caller,
            entry,
            expect,
        });
    }

    /// S16, and the short cut pods take to external addresses.
    fn policy(&self, kind: FrontendKind, caller: CallerId) -> TrafficPolicy {
        match (kind, caller) {
            (FrontendKind::ClusterIp, _) => self.service.internal_traffic_policy,
            (_, CallerId::Client) => self.service.external_traffic_policy,
            (_, CallerId::Pod(_)) => TrafficPolicy::Cluster,
        }
    }

    /// S27, S28.
    fn admits(&self, source: IpAddr) -> bool {
        let ranges = &self.service.load_balancer_source_ranges;
        let mut ranges = ranges
            .iter()
            .filter(|range| IpFamily::of_net(**range) == self.family)
            .peekable();
        ranges.peek().is_none() || ranges.any(|range: &IpNet| range.contains(&source))
    }

    fn pick(&self, addresses: &[IpAddr; 2]) -> IpAddr {
        addresses[usize::from(self.family == IpFamily::V6)]
    }
}

/// The ready endpoints, or else those that are terminating and still serve (S13); hints are for the agent to weigh.
fn usable(
    service: &Service,
    port: &ServicePort,
    family: IpFamily,
    slices: &[EndpointSlice],
) -> BTreeMap<SocketAddr, Endpoint> {
    let mut all: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in slices
        .iter()
        .filter(|slice| slice.service == service.key && slice.family == family)
    {
        let ports = slice
            .ports
            .iter()
            .filter(|slice_port| slice_port.name == port.name && slice_port.protocol == port.protocol);
        for slice_port in ports {
            for endpoint in &slice.endpoints {
                let held = all
                    .entry(SocketAddr::new(endpoint.address, slice_port.port))
                    .or_insert_with(|| endpoint.clone());
                if held.terminating {
                    held.clone_from(endpoint);
                }
            }
        }
    }
    let anybody_ready = all.values().any(|endpoint| endpoint.ready);
    all.retain(|_, endpoint| {
        if anybody_ready {
            endpoint.ready
        } else {
            endpoint.serving && endpoint.terminating
        }
    });
    all
}

fn is_on(endpoint: &Endpoint, node: u8) -> bool {
    endpoint.node_name.as_deref() == Some(node_name(node).as_str())
}

fn protocol(protocol: model::Protocol) -> Option<Protocol> {
    match protocol {
        model::Protocol::Tcp => Some(Protocol::Tcp),
        model::Protocol::Udp => Some(Protocol::Udp),
        model::Protocol::Sctp => None,
    }
}

impl Frontend {
    /// Its address and port with the protocol, as people write it.
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.to, protocol_word(self.protocol))
    }

    /// `namespace/name:port`.
    pub(super) fn service_port(&self) -> String {
        let name = &self.port.name;
        if name.is_empty() {
            format!("{}:{}", self.service, self.port.port)
        } else {
            format!("{}:{name}", self.service)
        }
    }
}

/// As Kubernetes writes it.
pub(super) fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("the client"),
            Self::Pod(node) => write!(f, "a pod on {}", node_name(*node)),
        }
    }
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "nodePort",
            Self::ExternalIp => "externalIP",
            Self::LoadBalancer => "LB VIP",
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
    use lb_userspace::model::parse::{self, Parsed};

    use super::*;
    use crate::host::pod_addresses;

    /// Two nodes; `pods` are (node, number) and are the endpoints.
    fn lines(spec: &str, pods: &[(u8, u8)]) -> (Vec<String>, Vec<String>) {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n");
        let mut object: v1::Service = serde_saphyr::from_str(&text).unwrap();
        object.metadata.namespace = Some("default".to_owned());
        let Parsed::Accepted { value: service, .. } = parse::service(&object).unwrap() else {
            panic!("skipped")
        };
        let endpoints: Vec<_> = pods
            .iter()
            .map(|&(node, number)| {
                format!(
                    "{{addresses: ['{}'], nodeName: {}}}",
                    pod_addresses(node, number)[0],
                    node_name(node)
                )
            })
            .collect();
        let text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: default, labels: \
             {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: '', port: 8080}}]\nendpoints: [{}]\n",
            endpoints.join(", ")
        );
        let object: discovery::EndpointSlice = serde_saphyr::from_str(&text).unwrap();
        let Parsed::Accepted { value: slice, .. } = parse::endpoint_slice(&object).unwrap() else {
            panic!("skipped")
        };
        let address = |text: &str| [text.parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let world = World {
            nodes: vec![address("192.0.2.10"), address("192.0.2.11")],
            client: address("192.0.2.100"),
            callers: vec![pod_addresses(0, 100), pod_addresses(1, 100)],
            pods: [(0, 2), (0, 3), (1, 2)]
                .into_iter()
                .map(|(node, number)| (pod_addresses(node, number)[0], format!("web-{node}-{number}")))
                .collect(),
        };
        let found = probes(&[service], &[slice], &world);
        let line = |probe: &Probe| {
            let expect = match &probe.expect {
                Expect::Refused => "refused".to_owned(),
                Expect::Answer {
                    endpoints,
                    keeps_address,
                    affinity,
                } => {
                    let names: Vec<_> = endpoints.values().cloned().collect();
                    let keeps = if *keeps_address { " keeps" } else { "" };
                    let affinity = if *affinity { " sticks" } else { "" };
                    format!("{}{keeps}{affinity}", names.join(","))
                }
            };
            format!(
                "{} → {} via {}: {expect}",
                probe.caller, probe.frontend.to, probe.entry
            )
        };
        (
            found.probes.iter().map(line).collect(),
            found.notes.into_iter().collect(),
        )
    }

    #[test]
    fn a_cluster_ip_is_called_from_everywhere() {
        let (lines, notes) = lines(
            "{clusterIP: 10.96.0.1, ports: [{port: 80}], sessionAffinity: ClientIP}",
            &[(0, 2), (1, 2)],
        );
        assert_eq!(
            lines,
            [
                "the client → 10.96.0.1:80 via 0: web-0-2,web-1-2 sticks",
                "a pod on node0 → 10.96.0.1:80 via 0: web-0-2,web-1-2 keeps sticks",
                "a pod on node1 → 10.96.0.1:80 via 1: web-0-2,web-1-2 keeps sticks",
            ]
        );
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn local_policies_ask_only_nodes_with_endpoints() {
        let (found, notes) = lines(
            "{type: NodePort, externalTrafficPolicy: Local, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}], \
             externalIPs: [203.0.113.7]}",
            &[(1, 2)],
        );
        assert_eq!(
            found[3..],
            [
                "the client → 203.0.113.7:80 via 1: web-1-2 keeps",
                "the client → 192.0.2.11:30080 via 1: web-1-2 keeps",
            ]
        );
        assert_eq!(
            notes,
            [
                "default/web 192.0.2.10:30080: not called through node0, where its policy Local has no endpoint"
            ]
        );
        let (found, _) = lines(
            "{clusterIP: 10.96.0.1, internalTrafficPolicy: Local, ports: [{port: 80}]}",
            &[(0, 2), (0, 3), (1, 2)],
        );
        assert_eq!(
            found,
            [
                "the client → 10.96.0.1:80 via 0: web-0-2,web-0-3",
                "a pod on node0 → 10.96.0.1:80 via 0: web-0-2,web-0-3 keeps",
                "a pod on node1 → 10.96.0.1:80 via 1: web-1-2 keeps",
            ]
        );
    }

    #[test]
    fn without_endpoints_callers_are_refused_and_with_foreign_ones_nobody_calls() {
        let spec = "{clusterIP: 10.96.0.1, ports: [{port: 80}]}";
        assert_eq!(lines(spec, &[]).0[0], "the client → 10.96.0.1:80 via 0: refused");
        assert_eq!(
            lines(spec, &[(0, 2), (0, 9)]),
            (
                vec![],
                vec![
                    "default/web port 80: not called, its endpoint 10.244.0.9:8080 is outside the lab"
                        .to_owned()
                ]
            )
        );
    }
}
