//! TCP Services as kube-proxy's nftables mode has them on a node: a table a family, with maps from addresses to chains, a
//! chain a Service and one an endpoint, and a mark for what is to be masqueraded.
//!
//! One thing is otherwise: kube-proxy masquerades with `fully-random`, here the client's port is kept where it is free.

use std::net::IpAddr;

use anyhow::{Context, Result};

use super::netlink::{Family, Transaction};
use super::words::{
    compare, destination_port, dnat, look_up, mark, masked, masquerade, network, random, set_mark,
    transport_protocol, verdict,
};
use crate::cluster_lab::{Endpoint, Service};
use crate::host::Node;

const TABLE: &str = "kube-proxy";
const TCP: u8 = 6;
/// NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING
const PRE_ROUTING: u32 = 0;
const LOCAL_OUT: u32 = 3;
const POST_ROUTING: u32 = 4;
/// NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC
const BEFORE_ROUTING: i32 = -100;
const AFTER_ROUTING: i32 = 100;
/// kube-proxy's `--iptables-masquerade-bit`
const MASQUERADE: u32 = 1 << 14;

/// Puts the rules of Services, each with its endpoints, on a node.
///
/// # Errors
/// When the kernel has no nf_tables or refuses a rule.
pub fn install(node: &Node, services: &[(&Service, Vec<Endpoint>)]) -> Result<()> {
    for v6 in [false, true] {
        let mut rules = Rules::new(v6);
        rules.frame(node.address(v6));
        for (service, endpoints) in services {
            rules.service(service, endpoints);
        }
        rules.maps_and_ways();
        rules.change.commit(node.ns()).context("kube-proxy's rules")?;
    }
    Ok(())
}

/// Removes them as `kube-proxy --cleanup` does. What conntrack knows stays.
///
/// # Errors
/// When they are not there.
pub fn cleanup(node: &Node) -> Result<()> {
    for v6 in [false, true] {
        let mut change = Transaction::new(Header::of(v6).family, TABLE);
        change.delete_table();
        change.commit(node.ns()).context("kube-proxy's cleanup")?;
    }
    Ok(())
}

/// Where a family's header has its addresses.
#[derive(Clone, Copy)]
struct Header {
    family: Family,
    source: u32,
    destination: u32,
    length: u32,
    /// The leading bytes that all pods' addresses share.
    pods: &'static [u8],
}

impl Header {
    fn of(v6: bool) -> Self {
        if v6 {
            Self {
                family: Family::V6,
                source: 8,
                destination: 24,
                length: 16,
                pods: &[0xfd, 0, 0, 0x10, 0x02, 0x44],
            }
        } else {
            Self {
                family: Family::V4,
                source: 12,
                destination: 16,
                length: 4,
                pods: &[10, 244],
            }
        }
    }
}

/// The table of a family, as it is written.
struct Rules {
    change: Transaction,
    header: Header,
    v6: bool,
    node: Vec<u8>,
    service_ips: Vec<(Vec<u8>, String)>,
    node_ports: Vec<(Vec<u8>, String)>,
}

impl Rules {
    fn new(v6: bool) -> Self {
        let header = Header::of(v6);
        Self {
            change: Transaction::new(header.family, TABLE),
            header,
            v6,
            node: Vec::new(),
            service_ips: Vec::new(),
            node_ports: Vec::new(),
        }
    }

    /// What every table has.
    fn frame(&mut self, node: IpAddr) {
        self.node = octets(node);
        let change = &mut self.change;
        change.add_table();
        change.add_base_chain("nat-prerouting", "nat", PRE_ROUTING, BEFORE_ROUTING);
        change.add_base_chain("nat-output", "nat", LOCAL_OUT, BEFORE_ROUTING);
        change.add_base_chain("nat-postrouting", "nat", POST_ROUTING, AFTER_ROUTING);
        for chain in ["services", "masquerading", "mark-for-masquerade"] {
            change.add_chain(chain);
        }
        let mark_it = [mark(), masked(!MASQUERADE, MASQUERADE), set_mark()];
        change.add_rule("mark-for-masquerade", &mark_it);
        let unmarked = [
            mark(),
            masked(MASQUERADE, 0),
            compare::equals(&0_u32.to_ne_bytes()),
            verdict::leave(),
        ];
        change.add_rule("masquerading", &unmarked);
        let unmark = [mark(), masked(!0, MASQUERADE), set_mark(), masquerade()];
        change.add_rule("masquerading", &unmark);
    }

    fn service(&mut self, service: &Service, endpoints: &[Endpoint]) {
        let name = service.name();
        let [inside, outside] = ["service", "external"].map(|kind| format!("{kind}-{name}"));
        self.change.add_chain(&inside);
        self.change.add_chain(&outside);
        let cluster_ip = service.cluster_ip(self.v6);
        let load_balancer = service.load_balancer(self.v6);
        for (to, chain) in [(cluster_ip, &inside), (load_balancer, &outside)] {
            let key = [octets(to.ip()), protocol_and_port(to.port())].concat();
            self.service_ips.push((key, chain.clone()));
        }
        let key = protocol_and_port(service.node_port());
        self.node_ports.push((key, outside.clone()));

        let Header {
            source,
            destination,
            length,
            pods,
            ..
        } = self.header;
        let shared = u32::try_from(pods.len()).expect("a prefix is short");
        let from_elsewhere = [
            network(destination, length, 0),
            compare::equals(&octets(cluster_ip.ip())),
            network(source, shared, 0),
            compare::differs(pods),
            verdict::jump("mark-for-masquerade"),
        ];
        self.change.add_rule(&inside, &from_elsewhere);
        self.change
            .add_rule(&outside, &[verdict::jump("mark-for-masquerade")]);
        self.change.add_rule(&outside, &[verdict::goto(&inside)]);
        self.endpoints(name, &inside, endpoints);
    }

    /// An even choice among chains of endpoints.
    fn endpoints(&mut self, name: &str, service_chain: &str, endpoints: &[Endpoint]) {
        let Header {
            family,
            source,
            length,
            ..
        } = self.header;
        let mut chains = Vec::new();
        for (number, endpoint) in (0_u32..).zip(endpoints) {
            let chain = format!("endpoint-{name}-{number}");
            let to = endpoint.address(self.v6);
            let address = octets(to.ip());
            self.change.add_chain(&chain);
            let hairpin = [
                network(source, length, 0),
                compare::equals(&address),
                verdict::jump("mark-for-masquerade"),
            ];
            self.change.add_rule(&chain, &hairpin);
            let translate = [
                transport_protocol(0),
                compare::equals(&[TCP]),
                dnat(family as u32, &address, to.port()),
            ];
            self.change.add_rule(&chain, &translate);
            chains.push((number.to_ne_bytes().to_vec(), chain));
        }
        let map = format!("endpoints-{name}");
        let count = u32::try_from(chains.len()).expect("few endpoints");
        self.change.add_verdict_map(&map, &chains);
        self.change
            .add_rule(service_chain, &[random(count), look_up(&map)]);
    }

    /// The ways from the kernel's hooks to the Services.
    fn maps_and_ways(&mut self) {
        let Header {
            destination, length, ..
        } = self.header;
        let change = &mut self.change;
        change.add_verdict_map("service-ips", &self.service_ips);
        change.add_verdict_map("service-nodeports", &self.node_ports);
        let by_address = [
            network(destination, length, 0),
            transport_protocol(length / 4),
            destination_port(length / 4 + 1),
            look_up("service-ips"),
        ];
        change.add_rule("services", &by_address);
        let by_node_port = [
            network(destination, length, 0),
            compare::equals(&self.node),
            transport_protocol(0),
            destination_port(1),
            look_up("service-nodeports"),
        ];
        change.add_rule("services", &by_node_port);
        change.add_rule("nat-prerouting", &[verdict::jump("services")]);
        change.add_rule("nat-output", &[verdict::jump("services")]);
        change.add_rule("nat-postrouting", &[verdict::jump("masquerading")]);
    }
}

/// Parts of a key are a multiple of four bytes each.
fn protocol_and_port(port: u16) -> Vec<u8> {
    let [upper, lower] = port.to_be_bytes();
    vec![TCP, 0, 0, 0, upper, lower, 0, 0]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
