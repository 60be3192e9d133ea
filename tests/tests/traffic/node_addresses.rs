//! What the node has of its own on addresses and ports that are a Service's too.

use lab::client::Outcome;
use lab::cluster_lab::service::PORT;
use lab::cluster_lab::{Service, Shape};
use lab::server::{Protocol, Server};

use crate::on_both_shapes;
use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};

on_both_shapes!(
    a_service_at_an_address_of_the_node_leaves_other_ports_to_the_host,
    a_listener_of_the_host_is_shadowed_by_a_node_port_of_its_number,
);

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// S25: external IPs that are node 0's, a load balancer's that are node 1's. The Services' port is theirs, even where the host
/// listens; on every other port the host is there, or says itself that nobody is.
fn a_service_at_an_address_of_the_node_leaves_other_ports_to_the_host(shape: Shape) {
    const SSH: u16 = 22;
    const NOBODYS: u16 = 4444;
    let mut standard = Standard::start(shape);
    let nodes = [0, 1].map(|node| standard.lab.topology().node(node).host().addresses(0));
    let [[v4, v6], balanced] = nodes;
    let external = Service::new("external", 42).field(&format!("externalIPs: [\"{v4}\", \"{v6}\"]"));
    let balanced = Service::new("balanced", 43).load_balanced_at(balanced);
    standard
        .lab
        .write(&external, &standard.endpoints(&NEAR[..1]))
        .unwrap();
    standard
        .lab
        .write(&balanced, &standard.endpoints(&FAR[..1]))
        .unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    let listens = PROTOCOLS.map(|protocol| [(protocol, SSH), (protocol, PORT)]);
    let _hosts = ["node0", "node1"].map(|host| {
        let node = lab.topology().node(usize::from(host == "node1"));
        Server::start(node.ns(), host, &node.host().addresses(0), listens.as_flattened()).unwrap()
    });
    let rejected = || [0, 1].map(|node| lab.counted(node, "rejected").unwrap());
    let before = rejected();
    for v6 in FAMILIES {
        for (node, host, served_by) in [(0, "node0", NEAR[0]), (1, "node1", FAR[0])] {
            let address = lab.topology().node(node).address(v6);
            for caller in [lab.client(), lab.pod_caller(NEAR[1]), lab.pod_caller(FAR[1])] {
                for protocol in PROTOCOLS {
                    for (port, by) in [(PORT, name(served_by)), (SSH, host)] {
                        let outcome = caller.call(protocol, (address, port).into());
                        assert_eq!(
                            outcome.by(),
                            Some(by),
                            "{protocol:?} to {address} port {port}: {outcome}\n{}",
                            lab.account()
                        );
                    }
                }
                assert_eq!(caller.tcp((address, NOBODYS).into()), Outcome::Refused);
                assert_eq!(caller.udp((address, NOBODYS).into()), Outcome::Unreachable);
            }
        }
    }
    assert_eq!(rejected(), before, "the hosts refuse for themselves");
}

/// S31: whoever calls gets the Service; the listener's other ports are its own.
fn a_listener_of_the_host_is_shadowed_by_a_node_port_of_its_number(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let node = lab.topology().node(0);
    let shadowed = standard.near.node_port();
    let open = shadowed + 50;
    let listens = PROTOCOLS.map(|protocol| [(protocol, shadowed), (protocol, open)]);
    let _host = Server::start(
        node.ns(),
        "node0",
        &node.host().addresses(0),
        listens.as_flattened(),
    )
    .unwrap();
    for v6 in FAMILIES {
        for caller in [lab.client(), lab.pod_caller(NEAR[1])] {
            for protocol in PROTOCOLS {
                for (port, by) in [(shadowed, name(NEAR[0])), (open, "node0")] {
                    let outcome = caller.call(protocol, (node.address(v6), port).into());
                    assert_eq!(
                        outcome.by(),
                        Some(by),
                        "{protocol:?} to port {port}: {outcome}\n{}",
                        lab.account()
                    );
                }
            }
        }
    }
}
