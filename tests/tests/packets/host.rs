//! Clients on the node itself: what its sockets send is balanced where it leaves, and answers find their way back to them.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use etherparse::{PacketHeaders, TransportHeader};
use lab::packets::Outcome::{
    self, Answered, Dropped, Received, SentOn, SentOut, SentUnresolved, ToStack, Untouched,
};
use lab::packets::{
    CHOSEN, Case, Datapath, Expected, Family, Hook, Mac, Options, Packet, Place, Run, Service, Testbed,
    Verdict, Who, check, check_with, expect_flows, flags,
};
use lb_common::flow::{Forward, HookClass};
use lb_common::reason::Reason;
use lb_common::service::flags::{CLUSTER_IP, OUTSIDE_DROP, REWRITE_NODE};

use flags::{ACK, FIN, PSH, RST, SYN};

/// A socket of the node.
const HOST: (Who, u16) = (Who::Node, 40_000);
const VIP: (Who, u16) = (Who::ClusterIp, 80);
const NODE_PORT: (Who, u16) = (Who::Node, 30_080);
const POD: (Who, u16) = (Who::Pod, 8080);
const REMOTE: (Who, u16) = (Who::RemotePod, 8080);

fn web(backend: Who) -> Service {
    Service::tcp(Who::ClusterIp, 80)
        .backend(backend, 8080)
        .node_port(30_080)
        .flags(REWRITE_NODE)
}

/// As the node's stack sends it: by the default route, and from the loopback device to itself.
fn out(to: (Who, u16), flags: u8) -> Packet {
    Packet::tcp(HOST, to, flags).leaving()
}

fn to_itself(from: (Who, u16), to: (Who, u16), flags: u8) -> Packet {
    Packet::tcp(from, to, flags).hop(Mac::Loopback, Mac::Loopback)
}

#[test]
fn a_socket_of_the_node_reaches_backends_everywhere() {
    check(cluster_ips());
}

/// The hot program completes what it knows how to; whatever it completes, the full stage could have.
#[test]
fn the_full_stage_serves_the_node_as_the_hot_program_does() {
    let options = Options {
        hot: false,
        ..Options::default()
    };
    check_with(options, cluster_ips().into_iter().chain(node_ports()));
}

fn cluster_ips() -> Vec<Case> {
    let on_the_wire = |flags| Packet::tcp(HOST, REMOTE, flags).hop(Mac::Uplink, Mac::RemoteNode);
    let into_pod = |flags| Packet::tcp(HOST, POD, flags).hop(Mac::PodDevice, Mac::Pod);
    let answer = |flags| Packet::tcp(REMOTE, HOST, flags);
    let pods_answer = |flags| Packet::tcp(POD, HOST, flags).from_pod();
    let from_vip = |flags| Packet::tcp(VIP, HOST, flags);
    let received = |flags| Received(from_vip(flags).hop(Mac::Uplink, Mac::Uplink));
    vec![
        Case::new(
            "a remote backend sees the node's address, and the answer comes in where the request went out",
            [web(Who::RemotePod)],
        )
        .send(Place::Host, out(VIP, SYN), SentOn(on_the_wire(SYN)))
        .then("the entries", |datapath, family| {
            expect_flows(
                datapath,
                family,
                &[
                    Expected {
                        from: HOST,
                        to: VIP,
                        new_from: HOST,
                        new_to: REMOTE,
                        class: HookClass::Egress,
                        forward: Forward::Redirect,
                        reply: false,
                    },
                    Expected {
                        from: REMOTE,
                        to: HOST,
                        new_from: VIP,
                        new_to: HOST,
                        class: HookClass::UplinkIngress,
                        forward: Forward::Receive,
                        reply: true,
                    },
                ],
            )
        })
        .send(Place::Uplink, answer(SYN | ACK), ToStack(from_vip(SYN | ACK)))
        .send(Place::Host, out(VIP, ACK), SentOn(on_the_wire(ACK)))
        .send(
            Place::Host,
            out(VIP, ACK | PSH).payload(b"GET /"),
            SentOn(on_the_wire(ACK | PSH).payload(b"GET /")),
        )
        .send(
            Place::Uplink,
            answer(ACK).payload(b"odd"),
            ToStack(from_vip(ACK).payload(b"odd")),
        )
        .send(Place::Uplink, answer(ACK | FIN), ToStack(from_vip(ACK | FIN)))
        .send(Place::Host, out(VIP, ACK | FIN), SentOn(on_the_wire(ACK | FIN))),
        Case::new(
            "an answer by another uplink is received by the one the request left by",
            [web(Who::RemotePod)],
        )
        .send(Place::Host, out(VIP, SYN), SentOn(on_the_wire(SYN)))
        .send(
            Place::Second,
            answer(SYN | ACK).hop(Mac::FarNode, Mac::Second),
            received(SYN | ACK),
        ),
        Case::new(
            "a pod of this node is reached at its device, and its answer received by the uplink",
            [web(Who::Pod)],
        )
        .send(Place::Host, out(VIP, SYN), SentOut(into_pod(SYN)))
        .send(Place::Pod, pods_answer(SYN | ACK), received(SYN | ACK))
        .send(Place::Host, out(VIP, ACK), SentOut(into_pod(ACK)))
        .send(
            Place::Pod,
            pods_answer(ACK).payload(b"x"),
            received_with(VIP, ACK, b"x"),
        )
        .send(
            Place::Host,
            out(VIP, ACK).payload(b"y"),
            SentOut(into_pod(ACK).payload(b"y")),
        )
        .send(Place::Pod, pods_answer(ACK | FIN), received(ACK | FIN)),
        Case::new(
            "a packet of the node is not spent by the hop that never was",
            [web(Who::Pod)],
        )
        .send(Place::Host, out(VIP, SYN).ttl(1), SentOut(into_pod(SYN).ttl(1)))
        .send(
            Place::Pod,
            pods_answer(SYN | ACK).ttl(1),
            Received(from_vip(SYN | ACK).ttl(1).hop(Mac::Uplink, Mac::Uplink)),
        ),
        Case::new(
            "S19: where the kernel would choose another source, the source is rewritten",
            [web(Who::FarPod)],
        )
        .send(
            Place::Host,
            out(VIP, SYN),
            SentOut(
                Packet::tcp((Who::NodeSecond, CHOSEN), (Who::FarPod, 8080), SYN)
                    .hop(Mac::Second, Mac::FarNode),
            ),
        )
        .send(
            Place::Second,
            Packet::tcp((Who::FarPod, 8080), (Who::NodeSecond, CHOSEN), SYN | ACK)
                .hop(Mac::FarNode, Mac::Second),
            received(SYN | ACK),
        ),
        Case::new(
            "an unknown neighbour is the kernel's to find",
            [web(Who::LostPod)],
        )
        .send(
            Place::Host,
            out(VIP, SYN),
            SentUnresolved(Packet::tcp(HOST, (Who::LostPod, 8080), SYN)),
        ),
        Case::new("without a route there is no way", [web(Who::UnroutedPod)]).send(
            Place::Host,
            out(VIP, SYN),
            Dropped(Reason::NoRoute),
        ),
        Case::new(
            "two sockets of one number, two addresses, one backend: the second takes another port",
            [web(Who::RemotePod).also_at(Who::Vip, 80)],
        )
        .send(Place::Host, out(VIP, SYN), SentOn(on_the_wire(SYN)))
        .send(
            Place::Host,
            out((Who::Vip, 80), SYN),
            SentOn(Packet::tcp((Who::Node, CHOSEN), REMOTE, SYN).hop(Mac::Uplink, Mac::RemoteNode)),
        )
        .send(
            Place::Uplink,
            Packet::tcp(REMOTE, (Who::Node, CHOSEN), SYN | ACK),
            ToStack(Packet::tcp((Who::Vip, 80), HOST, SYN | ACK)),
        ),
        Case::new(
            "a server on the node itself is reached and answers by the loopback device",
            [web(Who::Node)],
        )
        .send(
            Place::Host,
            out(VIP, SYN),
            Received(to_itself(HOST, (Who::Node, 8080), SYN)),
        )
        .send(
            Place::Loopback,
            to_itself((Who::Node, 8080), HOST, SYN | ACK),
            ToStack(to_itself(VIP, HOST, SYN | ACK)),
        )
        .send(
            Place::Host,
            out(VIP, ACK),
            Received(to_itself(HOST, (Who::Node, 8080), ACK)),
        ),
        Case::new(
            "a datagram and its answer",
            [Service::udp(Who::ClusterIp, 53).backend(Who::Pod, 5353)],
        )
        .send(
            Place::Host,
            Packet::udp(HOST, (Who::ClusterIp, 53)).leaving(),
            SentOut(Packet::udp(HOST, (Who::Pod, 5353)).hop(Mac::PodDevice, Mac::Pod)),
        )
        .send(
            Place::Pod,
            Packet::udp((Who::Pod, 5353), HOST).from_pod(),
            Received(Packet::udp((Who::ClusterIp, 53), HOST).hop(Mac::Uplink, Mac::Uplink)),
        ),
    ]
}

fn received_with(from: (Who, u16), flags: u8, payload: &[u8]) -> Outcome {
    Received(
        Packet::tcp(from, HOST, flags)
            .payload(payload)
            .hop(Mac::Uplink, Mac::Uplink),
    )
}

#[test]
fn a_socket_of_the_node_reaches_the_nodes_own_node_ports() {
    check(node_ports());
}

fn node_ports() -> Vec<Case> {
    let request = |flags| to_itself(HOST, NODE_PORT, flags);
    let received = |flags| Received(to_itself(NODE_PORT, HOST, flags));
    vec![
        Case::new(
            "a pod answers from the node's own address by the loopback device",
            [web(Who::Pod)],
        )
        .send(
            Place::Loopback,
            request(SYN),
            SentOut(Packet::tcp(HOST, POD, SYN).hop(Mac::PodDevice, Mac::Pod)),
        )
        .send(
            Place::Pod,
            Packet::tcp(POD, HOST, SYN | ACK).from_pod(),
            received(SYN | ACK),
        )
        .send(
            Place::Loopback,
            request(ACK),
            SentOut(Packet::tcp(HOST, POD, ACK).hop(Mac::PodDevice, Mac::Pod)),
        )
        .send(Place::Pod, Packet::tcp(POD, HOST, ACK).from_pod(), received(ACK)),
        Case::new("so does a remote backend", [web(Who::RemotePod)])
            .send(
                Place::Loopback,
                request(SYN),
                SentOut(Packet::tcp(HOST, REMOTE, SYN).hop(Mac::Uplink, Mac::RemoteNode)),
            )
            .send(
                Place::Uplink,
                Packet::tcp(REMOTE, HOST, SYN | ACK),
                received(SYN | ACK),
            ),
        Case::new("a server on the node itself needs no other way", [web(Who::Node)])
            .send(
                Place::Loopback,
                request(SYN),
                ToStack(to_itself(HOST, (Who::Node, 8080), SYN)),
            )
            .send(
                Place::Loopback,
                to_itself((Who::Node, 8080), HOST, SYN | ACK),
                ToStack(to_itself(NODE_PORT, HOST, SYN | ACK)),
            ),
        Case::new("what the host tells itself otherwise is its own", [web(Who::Pod)])
            .send(
                Place::Loopback,
                to_itself(HOST, (Who::Node, 22), SYN),
                Untouched(Reason::NotOurs),
            )
            .send(Place::Loopback, request(ACK), Untouched(Reason::NotOurs)),
    ]
}

/// The table of sources and destinations, row "this node itself": the list inside, whatever the policy for clients outside.
#[test]
fn the_node_itself_gets_the_list_of_clients_inside() {
    check([Case::new(
        "externalTrafficPolicy: Local without endpoints here",
        [web(Who::RemotePod)
            .also_at(Who::Vip, 80)
            .outside(&[])
            .flags(REWRITE_NODE | OUTSIDE_DROP)],
    )
    .send(
        Place::Host,
        out((Who::Vip, 80), SYN),
        SentOn(Packet::tcp(HOST, REMOTE, SYN).hop(Mac::Uplink, Mac::RemoteNode)),
    )
    .send(
        Place::Uplink,
        Packet::tcp((Who::Client, 40_000), (Who::Vip, 80), SYN),
        Dropped(Reason::NoLocalEndpoints),
    )]);
}

/// S32, S34: the client is the node's address.
#[test]
fn affinity_holds_for_the_node() {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options::default()).expect("the kernel object");
    for family in Family::BOTH {
        datapath.reset(&bed).expect("empty maps");
        let services = [Service::tcp(Who::ClusterIp, 80)
            .backend(Who::RemotePod, 8080)
            .backend(Who::OtherRemotePod, 8080)
            .affinity(60)];
        datapath.install(family, &services).expect("services");
        for port in 40_000..40_020 {
            let frame = Packet::tcp((Who::Node, port), VIP, SYN).leaving().frame(family);
            let run = Hook::HostOut.run(&datapath, &bed, &frame).expect("a run");
            assert_eq!(run.verdict, Verdict::Pass);
        }
        let mut backends: Vec<u32> = datapath
            .flows(family)
            .expect("flows")
            .iter()
            .map(|flow| flow.state.backend)
            .collect();
        assert_eq!(backends.len(), 40);
        backends.dedup();
        assert_eq!(backends.len(), 1, "{family:?}");
    }
}

/// S21, S24, S44: refused as anybody is; the answer is received by the device the request was leaving by.
#[test]
fn a_socket_of_the_node_is_answered_when_nobody_serves() {
    let nobody = || {
        [
            Service::tcp(Who::ClusterIp, 80).node_port(30_080),
            Service::unknown_ports(Who::ClusterIp),
            Service::tcp(Who::Vip, 80).backend(Who::Pod, 8080),
        ]
    };
    let refused = |name, at, packet: Packet, reason| {
        Case::new(name, nobody()).send(at, packet.clone(), Answered(packet.reset(), reason))
    };
    check([
        refused(
            "a service without endpoints",
            Place::Host,
            out(VIP, SYN),
            Reason::Rejected,
        ),
        refused(
            "a port the ClusterIP does not have",
            Place::Host,
            out((Who::ClusterIp, 81), SYN),
            Reason::Rejected,
        ),
        refused(
            "a nodePort without endpoints",
            Place::Loopback,
            to_itself(HOST, NODE_PORT, SYN),
            Reason::Rejected,
        ),
        refused(
            "a segment of a connection that nobody knows, still addressed to a frontend",
            Place::Host,
            out((Who::Vip, 80), ACK | PSH).payload(b"still there?"),
            Reason::EndpointGone,
        ),
        refused(
            "the same of a pod's, which the node forwards",
            Place::Leaving,
            Packet::tcp(POD, (Who::Vip, 80), ACK).leaving(),
            Reason::EndpointGone,
        ),
        Case::new("a RST gets no answer", nobody()).send(
            Place::Leaving,
            Packet::tcp(POD, (Who::Vip, 80), RST).leaving(),
            Dropped(Reason::RejectedSilently),
        ),
    ]);
}

/// S24: an address of the range that nobody has, at the last place that could have served it.
#[test]
fn addresses_that_nobody_serves_do_not_leave_the_node() {
    let unserved = (Who::Unserved, 80);
    let pass = |at, packet: Packet| {
        Case::new("never where it comes in", [web(Who::Pod)]).send(at, packet, Untouched(Reason::NotOurs))
    };
    check([
        Case::new("a socket of the node asked for it", [web(Who::Pod)]).send(
            Place::Host,
            out(unserved, SYN),
            Dropped(Reason::Unserved),
        ),
        Case::new("a pod did, be it somebody's backend", [web(Who::Pod)]).send(
            Place::Leaving,
            Packet::tcp(POD, unserved, SYN).leaving(),
            Dropped(Reason::Unserved),
        ),
        Case::new("it shares its bit with a frontend", [web(Who::Pod)])
            .then("another service's bits", |datapath, family| {
                datapath.announce_frontend(Who::Unserved.ip(family).into())
            })
            .send(Place::Host, out(unserved, SYN), Dropped(Reason::Unserved))
            .send(
                Place::Leaving,
                Packet::udp(POD, unserved).leaving(),
                Dropped(Reason::Unserved),
            ),
        Case::new("a ping is a packet like another", [web(Who::Pod)]).send(
            Place::Host,
            Packet::echo_request(Who::Node, Who::Unserved).leaving(),
            Dropped(Reason::Unserved),
        ),
        pass(Place::Uplink, Packet::tcp((Who::Client, 40_000), unserved, SYN)),
        pass(Place::Pod, Packet::tcp(POD, unserved, SYN).from_pod()),
    ]);
}

#[test]
fn what_leaves_the_node_otherwise_is_untouched() {
    let pass = |name, at, packet: Packet| {
        Case::new(
            name,
            [
                web(Who::Pod),
                Service::tcp(Who::Vip, 80).backend(Who::RemotePod, 8080),
            ],
        )
        .send(at, packet, Untouched(Reason::NotOurs))
    };
    check([
        pass(
            "what is forwarded begins nothing: it had its chance where it came in",
            Place::Leaving,
            Packet::tcp((Who::OtherPod, 40_000), (Who::Vip, 80), SYN).leaving(),
        ),
        pass("a backend, called directly", Place::Host, out(REMOTE, SYN)),
        pass(
            "in the middle of such a connection",
            Place::Host,
            out(REMOTE, ACK),
        ),
        pass(
            "a pod's answer to another node's client",
            Place::Leaving,
            Packet::tcp(POD, REMOTE, ACK).leaving(),
        ),
        pass("somebody out there", Place::Host, out((Who::Stranger, 443), SYN)),
        pass(
            "a port that the load balancer's address does not have",
            Place::Host,
            out((Who::Vip, 81), SYN),
        ),
        pass(
            "into a pod goes what the stack sends there",
            Place::IntoPod,
            Packet::tcp(HOST, VIP, SYN).hop(Mac::PodDevice, Mac::Pod),
        ),
    ]);
}

/// S45: as NodeLocal DNSCache has it, a ClusterIP on a device of the node and a socket bound to that very address.
#[test]
fn a_listener_at_the_cluster_ip_comes_before_the_service() {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options::default()).expect("the kernel object");
    for family in Family::BOTH {
        for flags in [CLUSTER_IP, 0] {
            let bound = SocketAddr::new(Who::Node.ip(family), 53);
            let any: SocketAddr = match family {
                Family::V4 => "0.0.0.0:53",
                Family::V6 => "[::]:53",
            }
            .parse()
            .expect("an address");
            for (listens, served) in [(None, true), (Some(any), true), (Some(bound), flags == 0)] {
                let _tcp = listens.map(|at| TcpListener::bind(at).expect("a listener"));
                let _udp = listens.map(|at| UdpSocket::bind(at).expect("a socket"));
                let from = (Who::Client, 40_000);
                let to = (Who::Node, 53);
                for (service, packet) in [
                    (Service::tcp(Who::Node, 53), Packet::tcp(from, to, SYN)),
                    (Service::udp(Who::Node, 53), Packet::udp(from, to)),
                ] {
                    datapath.reset(&bed).expect("empty maps");
                    let service = service.backend(Who::Pod, 5353).flags(flags);
                    datapath.install(family, &[service]).expect("services");
                    let frame = packet.frame(family);
                    for hook in [Hook::UplinkXdp, Hook::UplinkIn, Hook::PodIn] {
                        let run = hook.run(&datapath, &bed, &frame).expect("a run");
                        let untouched = Run {
                            verdict: Verdict::Pass,
                            frame: frame.clone(),
                        };
                        let counted = datapath.reasons().expect("reasons")[&Reason::HostListener];
                        if hook == Hook::UplinkXdp {
                            assert_eq!(run, untouched);
                        } else {
                            assert_eq!(run != untouched, served, "{family:?} {hook:?} {listens:?}");
                        }
                        assert_eq!(counted > 0, !served, "{family:?} {hook:?} {listens:?}");
                        datapath.forget_flows(family).expect("empty tables");
                    }
                    datapath.forget_reasons().expect("empty counters");
                }
            }
        }
    }
}

/// S19: the answers of a connection that a socket of the node has with the endpoint itself are not taken for a Service's.
#[test]
fn a_source_port_that_another_socket_uses_with_that_backend_is_not_kept() {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options::default()).expect("the kernel object");
    for family in Family::BOTH {
        for is_connected in [false, true] {
            let direct = UdpSocket::bind(SocketAddr::new(HOST.0.ip(family), HOST.1)).expect("a socket");
            if is_connected {
                let pod = SocketAddr::new(Who::Pod.ip(family), 5353);
                direct.connect(pod).expect("a route");
            }
            datapath.reset(&bed).expect("empty maps");
            let service = Service::udp(Who::ClusterIp, 53).backend(Who::Pod, 5353);
            datapath.install(family, &[service]).expect("services");
            let frame = Packet::udp(HOST, (Who::ClusterIp, 53)).leaving().frame(family);
            let run = Hook::HostOut.run(&datapath, &bed, &frame).expect("a run");
            assert_eq!(run.verdict, Verdict::Redirect, "{family:?}");
            let headers = PacketHeaders::from_ethernet_slice(&run.frame).expect("a packet");
            let udp = headers.transport.and_then(TransportHeader::udp).expect("UDP");
            assert_eq!(udp.destination_port, 5353);
            assert_eq!(udp.source_port == HOST.1, !is_connected, "{family:?}: {udp:?}");
        }
    }
}
