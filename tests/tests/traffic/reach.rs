//! Every kind of address, from outside and from pods, to backends near and far.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lab::client::Caller;
use lab::cluster_lab::{Service, Shape};
use lab::server::{Answer, Protocol};

use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};
use crate::{on_both_shapes, on_both_shapes_with_other_pods};

on_both_shapes!(
    an_outside_client_reaches_every_kind_of_address,
    a_pod_reaches_every_kind_of_address,
    a_pod_reaches_itself_through_its_service,
    connections_are_spread_over_all_backends,
);
on_both_shapes_with_other_pods!(
    an_outside_client_reaches_every_kind_of_address,
    a_pod_reaches_every_kind_of_address,
    a_pod_reaches_itself_through_its_service,
);

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Every address of a Service as seen by a client of node `via`.
fn addresses(standard: &Standard, service: &Service, v6: bool) -> Vec<(&'static str, SocketAddr)> {
    vec![
        ("ClusterIP", service.cluster_ip(v6)),
        ("nodePort of node 0", standard.lab.node_port(0, service, v6)),
        ("nodePort of node 1", standard.lab.node_port(1, service, v6)),
        ("load balancer", service.load_balancer(v6)),
        ("external", service.external(v6)),
    ]
}

fn call(standard: &Standard, caller: &Caller, protocol: Protocol, to: SocketAddr, what: &str) -> Answer {
    let outcome = caller.call(protocol, to);
    if outcome.by().is_none() {
        panic!(
            "{protocol:?} to {what} {to}: {outcome}\n{}",
            standard.lab.account()
        );
    }
    outcome.answer()
}

/// S17, S20: a local backend sees the client itself, a remote one the node that sent the request on.
fn an_outside_client_reaches_every_kind_of_address(shape: Shape) {
    let standard = Standard::running(shape);
    let topology = standard.lab.topology();
    let caller = standard.lab.client();
    for v6 in FAMILIES {
        let client = topology.client().address(v6);
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            for (what, to) in addresses(&standard, service, v6) {
                let via = usize::from(what == "nodePort of node 1");
                let home = standard.lab.pod(pod).node();
                let expected = if home == via {
                    client
                } else {
                    topology.node(via).address(v6)
                };
                for protocol in PROTOCOLS {
                    let answer = call(&standard, &caller, protocol, to, what);
                    assert_eq!(answer.pod, name(pod), "{protocol:?} to {what} {to}");
                    assert_eq!(
                        answer.client.ip(),
                        expected,
                        "who {} saw: {protocol:?} to {what} {to}",
                        answer.pod
                    );
                    assert_eq!(answer.local.ip(), standard.lab.pod(pod).address(v6));
                }
            }
        }
    }
}

/// A pod keeps its address on the way to a ClusterIP (S17); to the other addresses a remote backend sees whatever brings
/// the answer back.
fn a_pod_reaches_every_kind_of_address(shape: Shape) {
    let standard = Standard::running(shape);
    let caller = standard.lab.pod_caller(NEAR[1]);
    for v6 in FAMILIES {
        let own = standard.lab.pod(NEAR[1]).address(v6);
        for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
            for (what, to) in addresses(&standard, service, v6) {
                for protocol in PROTOCOLS {
                    let answer = call(&standard, &caller, protocol, to, what);
                    assert_eq!(answer.pod, name(pod), "{protocol:?} to {what} {to}");
                    if what == "ClusterIP" {
                        assert_eq!(answer.client.ip(), own, "{protocol:?} to {what} {to}");
                    }
                }
            }
        }
    }
}

/// S18: hairpin.
fn a_pod_reaches_itself_through_its_service(shape: Shape) {
    let standard = Standard::running(shape);
    for (service, pod) in [(&standard.near, NEAR[0]), (&standard.far, FAR[0])] {
        let caller = standard.lab.pod_caller(pod);
        for v6 in FAMILIES {
            for (what, to) in addresses(&standard, service, v6) {
                for protocol in PROTOCOLS {
                    let answer = call(&standard, &caller, protocol, to, what);
                    assert_eq!(answer.pod, name(pod), "{protocol:?} to {what} {to}");
                    let own: IpAddr = standard.lab.pod(pod).address(v6);
                    assert_ne!(answer.client.ip(), own, "its own address never came from a wire");
                }
            }
        }
    }
}

fn connections_are_spread_over_all_backends(shape: Shape) {
    const CALLS: usize = 200;
    let standard = Standard::running(shape);
    for caller in [standard.lab.client(), standard.lab.pod_caller(NEAR[1])] {
        for v6 in FAMILIES {
            for protocol in PROTOCOLS {
                let mut served: BTreeMap<String, usize> = BTreeMap::new();
                for outcome in caller.calls(protocol, standard.all.cluster_ip(v6), CALLS) {
                    *served.entry(outcome.to_string()).or_default() += usize::from(outcome.by().is_none());
                    if let Some(pod) = outcome.by() {
                        *served.entry(pod.to_owned()).or_default() += 1;
                    }
                }
                served.retain(|_, count| *count > 0);
                assert_eq!(served.len(), 4, "{protocol:?}: {served:?}");
                // A fair choice gives each 50; fewer than 20 is 5 standard deviations away.
                assert!(
                    served.values().all(|count| *count >= 20),
                    "{protocol:?}: {served:?}"
                );
            }
        }
    }
}
