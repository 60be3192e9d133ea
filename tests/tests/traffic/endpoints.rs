//! Endpoints come and go: whom that moves, and whom it does not.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::client::Outcome;
use lab::cluster_lab::conversation::Association;
use lab::cluster_lab::{Service, Shape};
use lab::poll;
use lab::server::Protocol;

use crate::standard::{FAMILIES, Standard, name};
use crate::{on_an_api_server, on_both_shapes};

on_both_shapes!(
    affinity_holds_over_every_address_until_the_endpoint_goes,
    a_udp_flow_moves_when_its_endpoint_stops_serving,
    a_tcp_connection_to_a_removed_endpoint_lives_on,
    a_tcp_connection_whose_endpoint_terminated_and_went_is_reset,
);
on_an_api_server!(
    affinity_holds_over_every_address_until_the_endpoint_goes,
    a_udp_flow_moves_when_its_endpoint_stops_serving,
    a_tcp_connection_to_a_removed_endpoint_lives_on,
    a_tcp_connection_whose_endpoint_terminated_and_went_is_reset,
);

const SHORT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(10);

/// S32, S33.
fn affinity_holds_over_every_address_until_the_endpoint_goes(shape: Shape) {
    let mut standard = Standard::start(shape);
    let sticky = Service::new("sticky", 30)
        .with_load_balancer()
        .field("sessionAffinity: ClientIP");
    standard
        .lab
        .write(&sticky, &standard.endpoints(&[0, 1, 2, 3]))
        .unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    for caller in [lab.client(), lab.pod_caller(1)] {
        for v6 in FAMILIES {
            let ask = || {
                let addresses = [
                    sticky.cluster_ip(v6),
                    sticky.load_balancer(v6),
                    lab.node_port(0, &sticky, v6),
                ];
                let answers = (0..4).flat_map(|_| addresses.map(|to| caller.tcp(to).answer().pod));
                answers.collect::<BTreeSet<_>>()
            };
            let first = ask();
            assert_eq!(first.len(), 1, "one client, one endpoint: {first:?}");
            let gone = (0..4).find(|&pod| first.contains(name(pod))).unwrap();
            let rest: Vec<_> = (0..4).filter(|&pod| pod != gone).collect();
            lab.apply(&sticky, &standard.endpoints(&rest)).unwrap();
            let second = ask();
            assert_eq!(second.len(), 1, "{second:?}");
            assert_ne!(first, second);
            lab.apply(&sticky, &standard.endpoints(&[0, 1, 2, 3])).unwrap();
            assert_eq!(
                ask(),
                second,
                "an endpoint that returns does not pull its old clients back"
            );
        }
    }
}

/// S35: the same socket, the next packet.
fn a_udp_flow_moves_when_its_endpoint_stops_serving(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    for ns in [lab.topology().client().ns(), lab.pod(1).ns()] {
        for v6 in FAMILIES {
            let socket = Association::open(ns, 0, standard.all.cluster_ip(v6)).unwrap();
            let first = socket.request(LIMIT).answer().pod;
            for _ in 0..3 {
                assert_eq!(
                    socket.request(LIMIT).answer().pod,
                    first,
                    "a flow stays where it is"
                );
            }
            let left = (0..4).find(|&pod| name(pod) == first).unwrap();
            let rest: Vec<_> = (0..4).filter(|&pod| pod != left).collect();
            let mut endpoints = standard.endpoints(&rest);
            lab.apply(&standard.all, &endpoints).unwrap();
            let moved = poll::until("the flow moved", LIMIT, || match socket.request(SHORT) {
                Outcome::Answered(answer) if answer.pod != first => Ok(answer.pod),
                other => Err(other.to_string()),
            });
            let moved = moved.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account()));
            endpoints.push(lab.endpoint(left));
            lab.apply(&standard.all, &endpoints).unwrap();
            assert_eq!(socket.request(LIMIT).answer().pod, moved, "nothing pulls it back");
        }
    }
}

/// S37: it left without having been terminating, and the pod still answers.
fn a_tcp_connection_to_a_removed_endpoint_lives_on(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    for caller in [lab.client(), lab.pod_caller(1)] {
        for v6 in FAMILIES {
            let to = standard.all.cluster_ip(v6);
            let mut connection = caller.connect(to).unwrap();
            let first = connection.request().answer().pod;
            let rest: Vec<_> = (0..4).filter(|&pod| name(pod) != first).collect();
            lab.apply(&standard.all, &standard.endpoints(&rest)).unwrap();
            assert_eq!(connection.request().answer().pod, first);
            for outcome in caller.calls(Protocol::Tcp, to, 32) {
                assert_ne!(outcome.answer().pod, first, "new connections go elsewhere");
            }
            assert_eq!(connection.request().answer().pod, first);
            lab.apply(&standard.all, &standard.endpoints(&[0, 1, 2, 3]))
                .unwrap();
        }
    }
}

/// S37: while it terminates the connection runs; when it is gone, the client is told.
fn a_tcp_connection_whose_endpoint_terminated_and_went_is_reset(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    for v6 in FAMILIES {
        let mut connection = lab.client().connect(standard.all.cluster_ip(v6)).unwrap();
        let first = connection.request().answer().pod;
        let left = (0..4).find(|&pod| name(pod) == first).unwrap();
        let rest: Vec<_> = (0..4).filter(|&pod| pod != left).collect();
        let mut endpoints = standard.endpoints(&rest);
        endpoints.push(lab.endpoint(left).terminating(true));
        lab.write(&standard.all, &endpoints).unwrap();
        lab.wait_endpoints(&standard.all, &standard.endpoints(&rest))
            .unwrap();
        assert_eq!(connection.request().answer().pod, first, "it may run to its end");
        lab.apply(&standard.all, &standard.endpoints(&rest)).unwrap();
        let ended = poll::until("the connection reset", LIMIT, || match connection.request() {
            Outcome::Answered(answer) => Err(format!("answered by {}", answer.pod)),
            other => Ok(other),
        });
        let ended = ended.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account()));
        assert!(
            matches!(&ended, Outcome::Broken(how) if how.contains("reset")),
            "{ended}"
        );
        lab.apply(&standard.all, &standard.endpoints(&[0, 1, 2, 3]))
            .unwrap();
    }
}
