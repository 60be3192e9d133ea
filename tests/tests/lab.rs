//! The lab itself: what it builds carries traffic, says truthfully what happened, and goes away.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use lab::capture::{Capture, Frame};
use lab::client::{Caller, Outcome};
use lab::host::Uplink;
use lab::netns::Netns;
use lab::pod::{Pod, PodNet};
use lab::poll;
use lab::server::{Protocol, Server};
use lab::topology::Topology;

const FAMILIES: [bool; 2] = [false, true];
const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 8080), (Protocol::Udp, 8080)];
/// For outcomes that come at once or not at all.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(5);

fn serve(pod: &Pod) -> Server {
    Server::start(pod.ns(), pod.name(), &pod.addresses(), &PORTS).unwrap()
}

fn to(pod: &Pod, v6: bool) -> SocketAddr {
    (pod.address(v6), 8080).into()
}

/// The client reaches a pod on each node, both families and protocols, and is seen as itself; pods reach each other.
fn check_reach(pod_net: PodNet, uplink: Uplink) {
    let mut lab = Topology::builder()
        .nodes(2)
        .pods(pod_net)
        .uplink(uplink)
        .build()
        .unwrap();
    let pods = [
        lab.add_pod(0, "near").unwrap(),
        lab.add_pod(0, "beside").unwrap(),
        lab.add_pod(1, "far").unwrap(),
    ];
    let _servers = pods.each_ref().map(serve);
    for v6 in FAMILIES {
        let client = lab.client().address(v6);
        for pod in &pods {
            check_calls(&Caller::new(lab.client().ns()), client, pod, v6);
        }
        for pod in &pods[1..] {
            check_calls(&Caller::new(pods[0].ns()), pods[0].address(v6), pod, v6);
        }
    }
}

fn check_calls(caller: &Caller, from: IpAddr, pod: &Pod, v6: bool) {
    for (protocol, _) in PORTS {
        let outcome = caller.call(protocol, to(pod, v6));
        let Outcome::Answered(answer) = outcome else {
            panic!("{protocol:?} from {from} to {}: {outcome}", pod.name());
        };
        assert_eq!(answer.pod, pod.name());
        assert_eq!(answer.client.ip(), from);
        assert_eq!(answer.local, to(pod, v6));
    }
}

#[test]
fn routed_pods_are_reached_over_whole_frames() {
    check_reach(PodNet::Routed, Uplink::WholeFrames);
}

#[test]
fn routed_pods_are_reached_over_unfinished_frames() {
    check_reach(PodNet::Routed, Uplink::Unfinished);
}

#[test]
fn bridged_pods_are_reached_over_whole_frames() {
    check_reach(PodNet::Bridge, Uplink::WholeFrames);
}

#[test]
fn bridged_pods_are_reached_over_unfinished_frames() {
    check_reach(PodNet::Bridge, Uplink::Unfinished);
}

/// Whether the checksum of a TCP or UDP frame is right, by an independent implementation; `None` for other frames.
fn checksum_is_right(frame: &Frame) -> Option<bool> {
    let packet = SlicedPacket::from_ethernet(&frame.bytes).ok()?;
    let (source, destination) = match packet.net? {
        etherparse::NetSlice::Ipv4(ip) => (ip.header().source(), ip.header().destination()),
        _ => return None,
    };
    match packet.transport? {
        TransportSlice::Tcp(tcp) => {
            let right = tcp
                .to_header()
                .calc_checksum_ipv4_raw(source, destination, tcp.payload())
                .ok()?;
            Some(right == tcp.checksum())
        }
        TransportSlice::Udp(udp) => {
            let right = udp
                .to_header()
                .calc_checksum_ipv4_raw(source, destination, udp.payload())
                .ok()?;
            Some(right == udp.checksum())
        }
        _ => None,
    }
}

/// All frames of calls from the client and from the pod, as they arrive at the other end of each wire.
fn checksums_on_the_wire(uplink: Uplink) -> Vec<bool> {
    let mut lab = Topology::builder().uplink(uplink).build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let _server = serve(&pod);
    let captures = [
        Capture::start(&lab.client().ports()[0]),
        Capture::start(&lab.node(0).host().ports()[0]),
    ];
    let caller = Caller::new(lab.client().ns());
    for (protocol, _) in PORTS {
        caller.call(protocol, to(&pod, false)).answer();
    }
    let frames = captures.into_iter().flat_map(|capture| capture.unwrap().frames());
    frames
        .filter(|frame| !frame.outgoing)
        .filter_map(|frame| checksum_is_right(&frame))
        .collect()
}

#[test]
fn whole_frames_have_right_checksums_on_the_wire() {
    let right = checksums_on_the_wire(Uplink::WholeFrames);
    assert!(right.len() > 6 && right.iter().all(|right| *right), "{right:?}");
}

#[test]
fn unfinished_frames_have_wrong_checksums_on_the_wire() {
    let right = checksums_on_the_wire(Uplink::Unfinished);
    assert!(right.len() > 6 && right.iter().any(|right| !*right), "{right:?}");
}

#[test]
fn outcomes_tell_refused_unreachable_and_silence_apart() {
    let mut lab = Topology::builder().build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let caller = Caller::new(lab.client().ns());
    for v6 in FAMILIES {
        assert_eq!(caller.tcp(to(&pod, v6)), Outcome::Refused);
        assert_eq!(caller.udp(to(&pod, v6)), Outcome::Unreachable);
    }
    // Answers of the pod go nowhere.
    let caller = caller.patience(SHORT);
    let lo = pod.ns().link("lo").unwrap();
    for wire in ["192.0.2.0/24", "2001:db8:0:1::/64"] {
        pod.ns().add_route(wire.parse().unwrap(), None, &lo).unwrap();
    }
    for v6 in FAMILIES {
        assert_eq!(caller.tcp(to(&pod, v6)), Outcome::TimedOut);
        assert_eq!(caller.udp(to(&pod, v6)), Outcome::TimedOut);
    }
}

#[test]
fn a_stopped_server_refuses_and_ends_its_connections() {
    let mut lab = Topology::builder().build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let server = serve(&pod);
    let caller = Caller::new(lab.client().ns());
    let mut connection = caller.connect(to(&pod, false)).unwrap();
    connection.request().answer();
    connection.request().answer();
    assert_eq!((server.accepted(), server.open(), server.answered()), (1, 1, 2));
    server.stop();
    assert!(matches!(connection.request(), Outcome::Broken(_)));
    assert_eq!(caller.tcp(to(&pod, false)), Outcome::Refused);
    // The port is free again.
    let _server = serve(&pod);
    caller.tcp(to(&pod, false)).answer();
}

#[test]
fn a_thousand_connections_stay_open_and_answer() {
    let mut lab = Topology::builder().build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let server = serve(&pod);
    let mut crowd = Caller::new(lab.client().ns())
        .crowd(to(&pod, true), 1000)
        .unwrap();
    for _ in 0..2 {
        let outcomes = crowd.exercise();
        assert_eq!(
            outcomes
                .iter()
                .filter(|outcome| outcome.by() == Some("pod"))
                .count(),
            1000
        );
    }
    assert_eq!(
        (crowd.len(), server.accepted(), server.answered()),
        (1000, 1000, 2000)
    );
}

#[test]
fn a_fixed_source_port_is_what_the_server_sees() {
    let mut lab = Topology::builder().build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let _server = serve(&pod);
    let caller = Caller::new(lab.client().ns()).from_port(4242);
    for (protocol, _) in PORTS {
        assert_eq!(
            caller.call(protocol, to(&pod, false)).answer().client.port(),
            4242
        );
    }
}

#[test]
fn services_are_routed_through_the_chosen_node() {
    let lab = Topology::builder().nodes(2).services_via(1).build().unwrap();
    for (node, outcome) in [(1, true), (0, false)] {
        let capture = Capture::start(lab.node(node).host().uplink()).unwrap();
        let caller = Caller::new(lab.client().ns()).patience(SHORT);
        for service in [
            "10.96.0.1:80",
            "[fd00:96::1]:80",
            "198.51.100.1:80",
            "[2001:db8:0:2::1]:80",
        ] {
            let _ = caller.udp(service.parse().unwrap());
        }
        let udp = capture.frames().into_iter().filter(|frame| {
            let packet = SlicedPacket::from_ethernet(&frame.bytes)
                .ok()
                .and_then(|packet| packet.transport);
            !frame.outgoing
                && matches!(packet, Some(TransportSlice::Udp(udp)) if udp.destination_port() == 80)
        });
        assert_eq!(udp.count(), if outcome { 4 } else { 0 }, "node {node}");
    }
}

#[test]
fn a_second_wire_carries_traffic() {
    let lab = Topology::builder().two_uplinks().build().unwrap();
    let node = lab.node(0);
    let addresses = node.host().addresses(1);
    let _server = Server::start(node.ns(), "node0", &addresses, &PORTS).unwrap();
    for address in addresses {
        let seen = Caller::new(lab.client().ns())
            .tcp((address, 8080).into())
            .answer()
            .client
            .ip();
        assert!(lab.client().addresses(1).contains(&seen), "{seen}");
    }
}

#[test]
fn an_injected_frame_arrives() {
    let lab = Topology::builder().build().unwrap();
    let (client, node) = (lab.client().uplink(), lab.node(0).host().uplink());
    let arriving = Capture::start(node).unwrap();
    let [leaving, injector] = [(); 2].map(|()| Capture::start(client).unwrap());
    let mut frame = Vec::new();
    let packet =
        PacketBuilder::ethernet2(client.mac(), node.mac()).ipv4([192, 0, 2, 100], [192, 0, 2, 10], 9);
    packet.udp(1111, 2222).write(&mut frame, b"hello, node").unwrap();
    injector.inject(&frame).unwrap();
    let arrived = arriving
        .wait_for("the frame", LONG, |seen| seen.bytes == frame)
        .unwrap();
    assert!(!arrived.outgoing);
    assert!(
        leaving
            .wait_for("the frame", LONG, |seen| seen.bytes == frame)
            .unwrap()
            .outgoing
    );
}

#[test]
fn a_child_process_runs_in_the_namespace() {
    let ns = Netns::new("child").unwrap();
    let mut command = Command::new("readlink");
    command.arg("/proc/self/ns/net");
    let output = ns.output(command, LONG).unwrap();
    let inside = ns.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        inside.to_str().unwrap()
    );
    assert_ne!(inside, fs::read_link("/proc/self/ns/net").unwrap());
}

#[test]
fn a_child_process_is_killed_at_its_limit_and_with_its_namespace() {
    let ns = Netns::new("child").unwrap();
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("1000");
        command
    };
    let error = ns.output(sleep(), SHORT).unwrap_err().to_string();
    assert!(error.contains("had not ended"), "{error}");
    let mut child = ns.start(sleep()).unwrap();
    drop(ns);
    let ended = poll::until("the child ending", LONG, || {
        child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
    });
    assert!(!ended.unwrap().success());
}

#[test]
fn blocking_tasks_run_in_the_namespace() {
    let ns = Netns::new("blocking").unwrap();
    let read = || fs::read_link("/proc/thread-self/ns/net").unwrap();
    let blocking = ns.block_on(async move { tokio::task::spawn_blocking(read).await.unwrap() });
    assert_eq!(blocking, ns.run(read));
}

#[test]
fn names_are_gone_after_drop_and_after_a_panic() {
    let path = |name: &str| Path::new("/run/netns").join(name);
    let mut lab = Topology::builder().build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let names =
        [lab.client().ns(), lab.node(0).ns(), lab.wire(0).ns(), pod.ns()].map(|ns| ns.name().to_owned());
    assert!(names.iter().all(|name| path(name).exists()));
    let panicked = std::thread::spawn(move || {
        // In the order that is worse for clean-up: the node before its pod.
        let _pod = pod;
        let _lab = lab;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert!(!names.iter().any(|name| path(name).exists()));
}

#[test]
fn a_removed_pod_leaves_no_device_behind() {
    let mut lab = Topology::builder().build().unwrap();
    let pod = lab.add_pod(0, "pod").unwrap();
    let device = pod.host_end().name().to_owned();
    assert!(lab.node(0).ns().link(&device).is_ok());
    drop(pod);
    assert!(lab.node(0).ns().link(&device).is_err());
}

#[test]
fn an_address_comes_and_goes() {
    let ns = Netns::new("addresses").unwrap();
    let lo = ns.link("lo").unwrap();
    for address in ["192.0.2.1/32", "2001:db8::1/128"] {
        let address: ipnet::IpNet = address.parse().unwrap();
        let answers = || {
            let server = Server::start(&ns, "lo", &[address.addr()], &PORTS);
            server.is_ok()
        };
        assert!(!answers());
        lo.add_address(address).unwrap();
        assert!(answers());
        lo.remove_address(address.addr()).unwrap();
        assert!(!answers());
    }
}
