//! Pods that call a nodePort, of their own node and of another.

use std::time::Duration;

use lab::client::Outcome;
use lab::cluster_lab::{Service, Shape};
use lab::server::Protocol;

use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};
use crate::{on_both_shapes, on_both_shapes_with_other_pods};

on_both_shapes!(a_pod_reaches_node_ports_as_the_table_says);
on_both_shapes_with_other_pods!(a_pod_reaches_node_ports_as_the_table_says);

const SILENCE: Duration = Duration::from_millis(300);

/// S16, S17: at its own node a pod gets the cluster list, and keeps its address, under either policy. Another node takes it for
/// an outside client: under `Local` it gets that node's endpoints (S22), and a remote one sees the node.
fn a_pod_reaches_node_ports_as_the_table_says(shape: Shape) {
    let mut standard = Standard::start(shape);
    let local = |name, number| Service::new(name, number).field("externalTrafficPolicy: Local");
    let (local_near, local_far) = (local("local-near", 40), local("local-far", 41));
    let [near, far] = [NEAR, FAR].map(|pods| standard.endpoints(&pods[..1]));
    standard.lab.write(&local_near, &near).unwrap();
    standard.lab.write(&local_far, &far).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    let caller = lab.pod_caller(NEAR[1]);
    for v6 in FAMILIES {
        let own = lab.pod(NEAR[1]).address(v6);
        let other_node = lab.topology().node(1).address(v6);
        let table = [
            (&standard.near, 0, Some((NEAR[0], own))),
            (&standard.far, 0, Some((FAR[0], own))),
            (&local_near, 0, Some((NEAR[0], own))),
            (&local_far, 0, Some((FAR[0], own))),
            (&standard.near, 1, Some((NEAR[0], other_node))),
            (&standard.far, 1, Some((FAR[0], own))),
            (&local_near, 1, None),
            (&local_far, 1, Some((FAR[0], own))),
        ];
        for (service, node, expected) in table {
            let to = lab.node_port(node, service, v6);
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let what = format!("{protocol:?} to {} at node {node}", service.name());
                let Some((pod, seen)) = expected else {
                    let before = lab.counted(node, "no-local-endpoints").unwrap();
                    let outcome = caller.clone().patience(SILENCE).call(protocol, to);
                    assert_eq!(outcome, Outcome::TimedOut, "{what}\n{}", lab.account());
                    assert!(
                        lab.counted(node, "no-local-endpoints").unwrap() > before,
                        "{what}"
                    );
                    continue;
                };
                let outcome = caller.call(protocol, to);
                assert_eq!(
                    outcome.by(),
                    Some(name(pod)),
                    "{what}: {outcome}\n{}",
                    lab.account()
                );
                assert_eq!(outcome.answer().client.ip(), seen, "{what}");
            }
        }
    }
}
