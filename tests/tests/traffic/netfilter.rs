//! Beside netfilter: replies are translated at egress, after its conntrack, which sees one consistent connection.

use std::time::Duration;

use lab::cluster_lab::conversation::{Association, bulk};
use lab::cluster_lab::netfilter::{forward_and_masquerade, kube_proxy};
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::server::{Protocol, Server};

use crate::on_both_shapes;
use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};

on_both_shapes!(
    connections_live_beside_masquerade_and_a_drop_of_what_is_invalid,
    what_another_proxy_serves_is_left_to_it,
);

const LIMIT: Duration = Duration::from_secs(20);

/// Translated before netfilter, replies would be packets of a connection that conntrack has never seen begin: invalid, or
/// masqueraded.
fn connections_live_beside_masquerade_and_a_drop_of_what_is_invalid(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    for node in lab.topology().nodes() {
        forward_and_masquerade(node.ns()).unwrap();
    }
    check_that_the_rules_are_in_force(lab);
    for v6 in FAMILIES {
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            let client = lab.topology().client();
            for to in [
                service.cluster_ip(v6),
                lab.node_port(0, service, v6),
                lab.node_port(1, service, v6),
            ] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let outcome = lab.client().call(protocol, to);
                    assert_eq!(
                        outcome.by(),
                        Some(name(pod)),
                        "{protocol:?} to {to}: {outcome}\n{}",
                        lab.account()
                    );
                }
                let mut connection = lab.client().connect(to).unwrap();
                for _ in 0..3 {
                    assert_eq!(connection.request().answer().pod, name(pod));
                }
                let flow = Association::open(client.ns(), 0, to).unwrap();
                for _ in 0..3 {
                    assert_eq!(flow.request(LIMIT).answer().pod, name(pod));
                }
            }
            assert_eq!(
                bulk(client.ns(), service.cluster_ip(v6), 1 << 20, LIMIT)
                    .unwrap()
                    .pod,
                name(pod)
            );
            for to in [service.cluster_ip(v6), lab.node_port(0, service, v6)] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let outcome = lab.pod_caller(NEAR[1]).call(protocol, to);
                    assert_eq!(
                        outcome.by(),
                        Some(name(pod)),
                        "{protocol:?} to {to}: {outcome}\n{}",
                        lab.account()
                    );
                }
            }
        }
    }
}

/// S26: its addresses are from the same ranges, and its rules do what they say; ours are served beside them.
fn what_another_proxy_serves_is_left_to_it(shape: Shape) {
    let mut standard = Standard::start(shape);
    let service = Service::new("anothers", 60).with_load_balancer();
    let service = service.for_another_proxy();
    let endpoints = standard.endpoints(&FAR[..1]);
    standard.lab.write(&service, &endpoints).unwrap();
    for node in standard.lab.topology().nodes() {
        kube_proxy::install(node, &[(&service, endpoints.clone())]).unwrap();
    }
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    for v6 in FAMILIES {
        for caller in [lab.client(), lab.pod_caller(NEAR[1])] {
            for (service, pod) in [(&service, FAR[0]), (&standard.near, NEAR[0])] {
                for to in [
                    service.cluster_ip(v6),
                    service.load_balancer(v6),
                    lab.node_port(0, service, v6),
                ] {
                    let outcome = caller.tcp(to);
                    assert_eq!(
                        outcome.by(),
                        Some(name(pod)),
                        "{to}: {outcome}\n{}",
                        lab.account()
                    );
                }
            }
        }
    }
    let frontends = lab.agent(0).xvip(&["dump", "frontends"]).unwrap();
    assert!(!frontends.contains("anothers"), "{frontends}");
}

/// What a pod sends to the outside has its node's address.
fn check_that_the_rules_are_in_force(lab: &ClusterLab) {
    let client = lab.topology().client();
    let _outside = Server::start(
        client.ns(),
        "outside",
        &client.addresses(0),
        &[(Protocol::Tcp, 9000)],
    )
    .unwrap();
    for v6 in FAMILIES {
        let answer = lab
            .pod_caller(NEAR[0])
            .tcp((client.address(v6), 9000).into())
            .answer();
        assert_eq!(answer.client.ip(), lab.topology().node(0).address(v6));
    }
}
