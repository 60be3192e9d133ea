//! What becomes of those who cannot be served, and of those who are none of ours.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use etherparse::{SlicedPacket, TransportSlice};
use lab::capture::Capture;
use lab::client::Outcome;
use lab::cluster_lab::conversation::Association;
use lab::cluster_lab::{Service, Shape};
use lab::poll;
use lab::server::{Protocol, Server};

use crate::on_both_shapes;
use crate::standard::{FAMILIES, FAR, NEAR, Standard, name};

on_both_shapes!(
    without_endpoints_callers_are_refused_at_once,
    endpoints_elsewhere_under_a_local_policy_are_silence,
    source_ranges_guard_the_load_balancer_address_alone,
    what_is_not_ours_passes_untouched,
);

/// "At once", on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(900);
const SILENCE: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(5);
/// A changed manifest, in the maps of an agent on a busy machine.
const APPLIED: Duration = Duration::from_secs(30);

/// S21: RST, port unreachable. S24: the same for a port a ClusterIP does not have.
fn without_endpoints_callers_are_refused_at_once(shape: Shape) {
    let mut standard = Standard::start(shape);
    let empty = Service::new("empty", 20).with_load_balancer();
    standard.lab.write(&empty, &[]).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    let capture = Capture::start(lab.topology().client().uplink()).unwrap();
    for v6 in FAMILIES {
        let mut unknown_port = standard.near.cluster_ip(v6);
        unknown_port.set_port(4444);
        let addresses = [
            empty.cluster_ip(v6),
            empty.load_balancer(v6),
            lab.node_port(0, &empty, v6),
            unknown_port,
        ];
        for caller in [lab.client(), lab.pod_caller(NEAR[1])] {
            for to in addresses {
                let began = Instant::now();
                assert_eq!(caller.tcp(to), Outcome::Refused, "TCP to {to}\n{}", lab.account());
                assert_eq!(
                    caller.udp(to),
                    Outcome::Unreachable,
                    "UDP to {to}\n{}",
                    lab.account()
                );
                assert!(began.elapsed() < AT_ONCE, "{to} took {:?}", began.elapsed());
            }
        }
        let reset_from = |frame: &[u8], from: SocketAddr| {
            let transport = SlicedPacket::from_ethernet(frame)
                .ok()
                .and_then(|packet| packet.transport);
            matches!(transport, Some(TransportSlice::Tcp(tcp)) if tcp.rst() && tcp.source_port() == from.port())
        };
        let address = empty.cluster_ip(v6);
        capture
            .wait_for("a RST", LONG, |frame| {
                !frame.outgoing && reset_from(&frame.bytes, address)
            })
            .unwrap();
    }
    assert!(lab.counted(0, "rejected").unwrap() > 0);
}

/// S22, and S16: the ClusterIP knows nothing of it.
fn endpoints_elsewhere_under_a_local_policy_are_silence(shape: Shape) {
    let mut standard = Standard::start(shape);
    let local = Service::new("local", 21)
        .with_external()
        .field("externalTrafficPolicy: Local");
    standard
        .lab
        .write(&local, &standard.endpoints(&FAR[..1]))
        .unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    for v6 in FAMILIES {
        let before = lab.counted(0, "no-local-endpoints").unwrap();
        let hasty = lab.client().patience(SILENCE);
        for to in [lab.node_port(0, &local, v6), local.external(v6)] {
            assert_eq!(hasty.tcp(to), Outcome::TimedOut, "{to}");
            assert_eq!(hasty.udp(to), Outcome::TimedOut, "{to}");
        }
        assert!(lab.counted(0, "no-local-endpoints").unwrap() >= before + 4);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            lab.client().call(protocol, local.cluster_ip(v6)).answer();
            // The node that has the endpoint serves, and shows it the client itself.
            let answer = lab.client().call(protocol, lab.node_port(1, &local, v6)).answer();
            assert_eq!(answer.client.ip(), lab.topology().client().address(v6));
            // Inside, the policy is short-circuited.
            lab.pod_caller(NEAR[0])
                .call(protocol, lab.node_port(0, &local, v6))
                .answer();
        }
    }
}

/// S23, S27: out of range is silence, for pods too, and only at the load balancer's address. Changed ranges are asked of new
/// connections alone.
fn source_ranges_guard_the_load_balancer_address_alone(shape: Shape) {
    let mut standard = Standard::start(shape);
    let hosts = |addresses: [IpAddr; 2]| {
        let [v4, v6] = addresses;
        let ranges = format!("loadBalancerSourceRanges: [\"{v4}/32\", \"{v6}/128\"]");
        let service = Service::new("ranged", 22).with_load_balancer().with_external();
        service.field(&ranges)
    };
    let endpoints = standard.endpoints(&NEAR[..1]);
    let client = standard.lab.topology().client();
    let ranged = hosts(FAMILIES.map(|v6| client.address(v6)));
    standard.lab.write(&ranged, &endpoints).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    for v6 in FAMILIES {
        let before = lab.counted(0, "source-range").unwrap();
        let (vip, pod) = (
            ranged.load_balancer(v6),
            lab.pod_caller(NEAR[1]).patience(SILENCE),
        );
        assert_eq!(pod.tcp(vip), Outcome::TimedOut);
        assert_eq!(pod.udp(vip), Outcome::TimedOut);
        assert!(lab.counted(0, "source-range").unwrap() >= before + 2);
        let stats = lab.agent(0).xvip_json(&["dump", "service_stats"]).unwrap();
        let rows = stats.as_array().unwrap().iter();
        let refused = rows
            .filter(|row| row["refused"] != 0)
            .map(|row| row["service"].as_str());
        let refused: BTreeSet<_> = refused.flatten().collect();
        let ports = ["default/ranged:tcp", "default/ranged:udp"];
        assert_eq!(refused, ports.into(), "of the Service's own ports");
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            lab.client().call(protocol, vip).answer();
            for open in [
                ranged.cluster_ip(v6),
                ranged.external(v6),
                lab.node_port(0, &ranged, v6),
            ] {
                lab.pod_caller(NEAR[1]).call(protocol, open).answer();
            }
        }
    }
    let client = lab.topology().client();
    let open = FAMILIES.map(|v6| Association::open(client.ns(), 0, ranged.load_balancer(v6)).unwrap());
    for association in &open {
        association.request(LONG).answer();
    }
    lab.write(
        &hosts(FAMILIES.map(|v6| lab.pod(NEAR[1]).address(v6))),
        &endpoints,
    )
    .unwrap();
    for v6 in FAMILIES {
        let vip = ranged.load_balancer(v6);
        poll::until("the client to be out of range", APPLIED, || {
            match lab.client().patience(SILENCE).tcp(vip) {
                Outcome::TimedOut => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account()));
        lab.pod_caller(NEAR[1]).call(Protocol::Tcp, vip).answer();
    }
    for association in &open {
        association.request(LONG).answer();
    }
}

/// The node's own listeners, routed traffic to and from pods, and answers to a host's socket that happens to have a nodePort
/// as its port (S19; `bpf_sk_lookup`).
fn what_is_not_ours_passes_untouched(shape: Shape) {
    const SSH: u16 = 22;
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let node = lab.topology().node(0);
    let client = lab.topology().client();
    let listens = [(Protocol::Tcp, SSH), (Protocol::Udp, SSH)];
    let _ssh = Server::start(node.ns(), "node0", &node.host().addresses(0), &listens).unwrap();
    let _outside = Server::start(client.ns(), "client0", &client.addresses(0), &listens).unwrap();
    for v6 in FAMILIES {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let answer = lab
                .client()
                .call(protocol, (node.address(v6), SSH).into())
                .answer();
            assert_eq!(
                (answer.pod.as_str(), answer.client.ip()),
                ("node0", client.address(v6))
            );
            for pod in [NEAR[0], FAR[0]] {
                let endpoint = (lab.pod(pod).address(v6), 8080).into();
                let answer = lab.client().call(protocol, endpoint).answer();
                assert_eq!(
                    (answer.pod.as_str(), answer.client.ip()),
                    (name(pod), client.address(v6))
                );
                let answer = lab
                    .pod_caller(pod)
                    .call(protocol, (client.address(v6), SSH).into())
                    .answer();
                assert_eq!(answer.client.ip(), lab.pod(pod).address(v6));
            }
        }
        // The host's socket takes the nodePort's number; a connected one shadows the Service for its own peer alone.
        let port = standard.near.node_port();
        let host = Association::open(node.ns(), port, (client.address(v6), SSH).into()).unwrap();
        for _ in 0..3 {
            let answer = host.request(LONG).answer();
            assert_eq!((answer.pod.as_str(), answer.client.port()), ("client0", port));
        }
        let answer = lab.client().udp(lab.node_port(0, &standard.near, v6)).answer();
        assert_eq!(answer.pod, name(NEAR[0]));
    }
}
