//! A small cluster: a wire, clients and nodes on it, both families, with the addresses every test can rely on.
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | wire (the gateway, `.1`) | 192.0.2.0/24 | 2001:db8:0:1::/64 |
//! | second wire, if asked for | 203.0.113.0/24 | 2001:db8:0:3::/64 |
//! | node *i* | .(10 + i) | ::(10 + i) |
//! | client *k* | .(100 + k) | ::(100 + k) |
//! | pods of node *i* | 10.244.i.0/24 | fd00:10:244:i::/64 |
//! | Services | 10.96.0.0/16 | fd00:96::/108 |
//! | load balancers | 198.51.100.0/24 | 2001:db8:0:2::/64 |
//!
//! (In the table IPv6 host parts are written as the decimal numbers they stand for; on the wire `::10` is `::a`.)

use anyhow::{Result, ensure};
use ipnet::IpNet;

use crate::host::{Host, Node, Uplink, Wire};
use crate::pod::{Pod, PodNet};

/// The address ranges clients send to a node: Services, then load balancers.
pub const SERVICE_RANGES: [&str; 4] = [
    "10.96.0.0/16",
    "fd00:96::/108",
    "198.51.100.0/24",
    "2001:db8:0:2::/64",
];

/// The most nodes and clients: their numbers are host parts below a byte, apart from each other.
const MOST: u8 = 64;

/// What to build.
#[derive(Debug, Clone)]
pub struct Builder {
    nodes: u8,
    clients: u8,
    wires: u8,
    pod_net: PodNet,
    uplink: Uplink,
    via: u8,
    ranges: Vec<IpNet>,
}

/// A standing cluster; gone on drop.
#[derive(Debug)]
pub struct Topology {
    // Dropped in this order: those at the ends of links before the switches.
    clients: Vec<Host>,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    pod_net: PodNet,
    ranges: Vec<IpNet>,
}

impl Topology {
    /// One node with routed pods, one client, one wire with whole frames, until told otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            nodes: 1,
            clients: 1,
            wires: 1,
            pod_net: PodNet::Routed,
            uplink: Uplink::WholeFrames,
            via: 0,
            ranges: SERVICE_RANGES
                .iter()
                .map(|range| range.parse().expect("a constant"))
                .collect(),
        }
    }

    /// The first client.
    #[must_use]
    pub fn client(&self) -> &Host {
        &self.clients[0]
    }

    /// All clients.
    #[must_use]
    pub fn clients(&self) -> &[Host] {
        &self.clients
    }

    /// A node by its index.
    ///
    /// # Panics
    /// When there are not as many.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A switch by its number.
    ///
    /// # Panics
    /// When there are not as many.
    #[must_use]
    pub fn wire(&self, number: usize) -> &Wire {
        &self.wires[number]
    }

    /// How pods are attached.
    #[must_use]
    pub fn pod_net(&self) -> PodNet {
        self.pod_net
    }

    /// Makes a pod on a node, reachable from everywhere when this returns.
    ///
    /// # Errors
    /// When the node is full or the kernel refuses.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn add_pod(&mut self, node: usize, name: &str) -> Result<Pod> {
        self.nodes[node].add_pod(name)
    }

    /// As [`Topology::add_pod`], with the addresses [`pod_addresses`](crate::host::pod_addresses) gives for a number.
    ///
    /// # Errors
    /// When a pod has that number, or the kernel refuses.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn add_pod_at(&mut self, node: usize, name: &str, number: u8) -> Result<Pod> {
        self.nodes[node].add_pod_at(name, number)
    }

    /// Sends what clients send to the service ranges through this node from now on.
    ///
    /// # Errors
    /// When the kernel refuses the routes.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn route_services_via(&self, node: usize) -> Result<()> {
        for client in &self.clients {
            for range in &self.ranges {
                let gateway = self.nodes[node].address(range.addr().is_ipv6());
                client.ns().add_route(*range, Some(gateway), client.uplink())?;
            }
        }
        Ok(())
    }

    /// Everybody can reach every node's pods through that node.
    fn route_pods(&self) -> Result<()> {
        for node in &self.nodes {
            let hosts = self.clients.iter().chain(self.nodes.iter().map(Node::host));
            for host in hosts.filter(|host| host.number() != node.host().number()) {
                for range in node.pod_ranges() {
                    host.ns()
                        .add_route(range, Some(node.address(range.addr().is_ipv6())), host.uplink())?;
                }
            }
        }
        Ok(())
    }
}

impl Builder {
    /// How many nodes.
    #[must_use]
    pub fn nodes(self, nodes: u8) -> Self {
        Self { nodes, ..self }
    }

    /// How many clients.
    #[must_use]
    pub fn clients(self, clients: u8) -> Self {
        Self { clients, ..self }
    }

    /// Puts everybody on a second wire too (`eth1`).
    #[must_use]
    pub fn two_uplinks(self) -> Self {
        Self { wires: 2, ..self }
    }

    /// How pods are attached.
    #[must_use]
    pub fn pods(self, pod_net: PodNet) -> Self {
        Self { pod_net, ..self }
    }

    /// What frames on the wires look like.
    #[must_use]
    pub fn uplink(self, uplink: Uplink) -> Self {
        Self { uplink, ..self }
    }

    /// The node clients send to for Services.
    #[must_use]
    pub fn services_via(self, node: u8) -> Self {
        Self { via: node, ..self }
    }

    /// The ranges clients send to that node, in place of [`SERVICE_RANGES`].
    #[must_use]
    pub fn service_ranges(self, ranges: Vec<IpNet>) -> Self {
        Self { ranges, ..self }
    }

    /// Builds it, and returns when all devices run.
    ///
    /// # Errors
    /// When not root, or when the kernel refuses something.
    pub fn build(self) -> Result<Topology> {
        ensure!(
            (1..=MOST).contains(&self.nodes),
            "1 to {MOST} nodes, not {}",
            self.nodes
        );
        ensure!(
            (1..=MOST).contains(&self.clients),
            "1 to {MOST} clients, not {}",
            self.clients
        );
        ensure!(
            self.via < self.nodes,
            "no node {} to send Services through",
            self.via
        );
        let wires = (0..self.wires)
            .map(|number| Wire::new(number, self.uplink))
            .collect::<Result<Vec<_>>>()?;
        let clients = (0..self.clients)
            .map(|k| Host::new(&format!("client{k}"), 100 + k, &wires, self.uplink))
            .collect::<Result<Vec<_>>>()?;
        let nodes = (0..self.nodes)
            .map(|i| Node::new(i, &wires, self.pod_net, self.uplink))
            .collect::<Result<Vec<_>>>()?;
        let topology = Topology {
            clients,
            nodes,
            wires,
            pod_net: self.pod_net,
            ranges: self.ranges,
        };
        topology.route_pods()?;
        topology.route_services_via(self.via.into())?;
        let hosts = topology
            .clients
            .iter()
            .chain(topology.nodes.iter().map(Node::host));
        for link in hosts.flat_map(|host| host.uplinks().iter().chain(host.ports())) {
            link.wait_running()?;
        }
        Ok(topology)
    }
}
