//! New connections, the packets that follow, and their replies.

use lab::packets::Outcome::{SentBack, SentByTc, SentOut, SentUnresolved, ToStack, Untouched};
use lab::packets::{
    CHOSEN, Case, Expected, Mac, Options, Packet, Place, Service, Who, check, check_with, expect_flows, flags,
};
use lb_common::flow::{Forward, HookClass};
use lb_common::reason::Reason;
use lb_common::service::flags::{REWRITE_OUTSIDE, REWRITE_POD};

use flags::{ACK, FIN, PSH, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const VIP: (Who, u16) = (Who::Vip, 80);
const POD: (Who, u16) = (Who::Pod, 8080);

fn web(backend: Who) -> Service {
    Service::tcp(Who::Vip, 80).backend(backend, 8080)
}

/// S17.
#[test]
fn outside_clients_reach_backends_on_this_node_with_their_own_address() {
    check(local_backends());
}

/// The hot program completes what it knows how to; whatever it completes, the full stage could have.
#[test]
fn the_full_stage_does_by_itself_what_the_hot_program_does() {
    let options = Options {
        hot: false,
        ..Options::default()
    };
    check_with(
        options,
        [local_backends(), remote_backends(), clients_in_pods()]
            .into_iter()
            .flatten(),
    );
}

fn local_backends() -> Vec<Case> {
    let request = |flags| Packet::tcp(CLIENT, VIP, flags);
    let reply = |flags| Packet::tcp(POD, CLIENT, flags).leaving();
    let to_pod = |packet: Packet| ToStack(packet.to(Who::Pod, 8080));
    let from_vip = |packet: Packet| ToStack(packet.from(Who::Vip, 80));
    vec![
        Case::new(
            "a SYN is rewritten in its destination alone, and makes a pair of entries",
            [web(Who::Pod)],
        )
        .send(Place::Uplink, request(SYN), to_pod(request(SYN)))
        .then("the entries", |datapath, family| {
            expect_flows(
                datapath,
                family,
                &[
                    Expected {
                        from: CLIENT,
                        to: VIP,
                        new_from: CLIENT,
                        new_to: POD,
                        class: HookClass::UplinkIngress,
                        forward: Forward::Stack,
                        reply: false,
                    },
                    Expected {
                        from: POD,
                        to: CLIENT,
                        new_from: VIP,
                        new_to: CLIENT,
                        class: HookClass::Egress,
                        forward: Forward::Stack,
                        reply: true,
                    },
                ],
            )
        }),
        Case::new("a whole TCP connection goes there and back", [web(Who::Pod)])
            .send(Place::Uplink, request(SYN), to_pod(request(SYN)))
            .send(Place::Leaving, reply(SYN | ACK), from_vip(reply(SYN | ACK)))
            .send(Place::Uplink, request(ACK), to_pod(request(ACK)))
            .send(
                Place::Uplink,
                request(ACK | PSH).payload(b"GET /"),
                to_pod(request(ACK | PSH).payload(b"GET /")),
            )
            .send(
                Place::Leaving,
                reply(ACK).payload(b"odd"),
                from_vip(reply(ACK).payload(b"odd")),
            )
            .send(Place::Leaving, reply(ACK | FIN), from_vip(reply(ACK | FIN)))
            .send(Place::Uplink, request(ACK | FIN), to_pod(request(ACK | FIN)))
            .send(Place::Leaving, reply(ACK), from_vip(reply(ACK))),
        Case::new(
            "a UDP datagram goes there and its answer back",
            [Service::udp(Who::Vip, 53).backend(Who::Pod, 5353)],
        )
        .send(
            Place::Uplink,
            Packet::udp(CLIENT, (Who::Vip, 53)),
            ToStack(Packet::udp(CLIENT, (Who::Pod, 5353))),
        )
        .send(
            Place::Leaving,
            Packet::udp((Who::Pod, 5353), CLIENT).leaving(),
            ToStack(Packet::udp((Who::Vip, 53), CLIENT).leaving()),
        )
        .send(
            Place::Uplink,
            Packet::udp(CLIENT, (Who::Vip, 53)),
            ToStack(Packet::udp(CLIENT, (Who::Pod, 5353))),
        ),
        Case::new(
            "a reply is translated at the uplink it leaves by, whichever the request came in by",
            [web(Who::Pod)],
        )
        .send(
            Place::Second,
            request(SYN).hop(Mac::FarNode, Mac::Second),
            to_pod(request(SYN).hop(Mac::FarNode, Mac::Second)),
        )
        .send(Place::Leaving, reply(SYN | ACK), from_vip(reply(SYN | ACK))),
        Case::new(
            "a packet of a flow passes hooks at which its entry does not act",
            [web(Who::Pod)],
        )
        .send(Place::Uplink, request(SYN), to_pod(request(SYN)))
        .send(Place::Leaving, request(ACK), Untouched(Reason::OtherHook))
        .send(
            Place::Pod,
            reply(SYN | ACK).from_pod(),
            Untouched(Reason::OtherHook),
        )
        // Both directions have shown what they are: from here on the hot program decides.
        .send(Place::Uplink, request(ACK), to_pod(request(ACK)))
        .send(Place::Leaving, reply(ACK), from_vip(reply(ACK)))
        .send(Place::Leaving, request(ACK), Untouched(Reason::OtherHook))
        .send(Place::Pod, reply(ACK).from_pod(), Untouched(Reason::OtherHook)),
        Case::new(
            "a nodePort is served at every address of the node",
            [Service::tcp(Who::ClusterIp, 80)
                .backend(Who::Pod, 8080)
                .node_port(30_080)],
        )
        .send(
            Place::Uplink,
            Packet::tcp(CLIENT, (Who::Node, 30_080), SYN),
            ToStack(Packet::tcp(CLIENT, POD, SYN)),
        )
        .send(
            Place::Leaving,
            reply(SYN | ACK),
            ToStack(Packet::tcp((Who::Node, 30_080), CLIENT, SYN | ACK).leaving()),
        )
        .send(
            Place::Uplink,
            Packet::tcp((Who::Crowd(1), 40_000), (Who::NodeSecond, 30_080), SYN),
            ToStack(Packet::tcp((Who::Crowd(1), 40_000), POD, SYN)),
        ),
        Case::new(
            "clients outside have a list of their own",
            [Service::tcp(Who::Vip, 80)
                .backend(Who::RemotePod, 8080)
                .outside(&[POD])],
        )
        .send(Place::Uplink, request(SYN), to_pod(request(SYN))),
        Case::new(
            "a service may ask for rewritten sources where the backend is local",
            [web(Who::Pod).flags(REWRITE_OUTSIDE)],
        )
        .send(
            Place::Uplink,
            request(SYN),
            SentByTc(
                Packet::tcp((Who::Node, CHOSEN), POD, SYN)
                    .hop(Mac::PodDevice, Mac::Pod)
                    .forwarded(),
            ),
        )
        .send(
            Place::Pod,
            Packet::tcp(POD, (Who::Node, CHOSEN), SYN | ACK).from_pod(),
            SentOut(
                Packet::tcp(VIP, CLIENT, SYN | ACK)
                    .hop(Mac::Uplink, Mac::Client)
                    .forwarded(),
            ),
        ),
    ]
}

/// S17.
#[test]
fn remote_backends_are_reached_from_the_nodes_address() {
    check(remote_backends());
}

fn remote_backends() -> Vec<Case> {
    let request = |flags| Packet::tcp(CLIENT, VIP, flags);
    let forwarded = |flags| {
        let packet = Packet::tcp((Who::Node, CHOSEN), (Who::RemotePod, 8080), flags);
        SentBack(packet.hop(Mac::Uplink, Mac::RemoteNode).forwarded())
    };
    let reply = |flags| {
        Packet::tcp((Who::RemotePod, 8080), (Who::Node, CHOSEN), flags).hop(Mac::RemoteNode, Mac::Uplink)
    };
    let returned = |flags| {
        SentBack(
            Packet::tcp(VIP, CLIENT, flags)
                .hop(Mac::Uplink, Mac::Client)
                .forwarded(),
        )
    };
    vec![
        Case::new(
            "XDP sends a connection there and back by itself",
            [web(Who::RemotePod)],
        )
        .send(Place::Uplink, request(SYN), forwarded(SYN))
        .send(Place::Uplink, reply(SYN | ACK), returned(SYN | ACK))
        .send(Place::Uplink, request(ACK), forwarded(ACK))
        .send(Place::Uplink, request(ACK), forwarded(ACK))
        .send(Place::Uplink, reply(ACK), returned(ACK))
        .send(Place::Uplink, reply(ACK), returned(ACK))
        .send(Place::Uplink, request(ACK | FIN), forwarded(ACK | FIN))
        .send(Place::Uplink, reply(ACK | FIN), returned(ACK | FIN)),
        Case::new(
            "UDP too",
            [Service::udp(Who::Vip, 53).backend(Who::RemotePod, 5353)],
        )
        .send(
            Place::Uplink,
            Packet::udp(CLIENT, (Who::Vip, 53)),
            SentBack(
                Packet::udp((Who::Node, CHOSEN), (Who::RemotePod, 5353))
                    .hop(Mac::Uplink, Mac::RemoteNode)
                    .forwarded(),
            ),
        )
        .send(
            Place::Uplink,
            Packet::udp((Who::RemotePod, 5353), (Who::Node, CHOSEN)).hop(Mac::RemoteNode, Mac::Uplink),
            SentBack(
                Packet::udp((Who::Vip, 53), CLIENT)
                    .hop(Mac::Uplink, Mac::Client)
                    .forwarded(),
            ),
        ),
        Case::new(
            "a backend behind the other uplink is reached from that uplink's address",
            [web(Who::FarPod)],
        )
        .send(
            Place::Uplink,
            request(SYN),
            SentOut(
                Packet::tcp((Who::NodeSecond, CHOSEN), (Who::FarPod, 8080), SYN)
                    .hop(Mac::Second, Mac::FarNode)
                    .forwarded(),
            ),
        )
        .send(
            Place::Second,
            Packet::tcp((Who::FarPod, 8080), (Who::NodeSecond, CHOSEN), SYN | ACK)
                .hop(Mac::FarNode, Mac::Second),
            SentOut(
                Packet::tcp(VIP, CLIENT, SYN | ACK)
                    .hop(Mac::Uplink, Mac::Client)
                    .forwarded(),
            ),
        ),
        Case::new(
            "a next hop without a known neighbour is left to tc, where the kernel resolves it",
            [web(Who::LostPod)],
        )
        .send(
            Place::Uplink,
            request(SYN),
            SentUnresolved(Packet::tcp((Who::Node, CHOSEN), (Who::LostPod, 8080), SYN).forwarded()),
        ),
        Case::new(
            "a backend without a route is an error that is counted",
            [web(Who::UnroutedPod)],
        )
        .send(
            Place::Uplink,
            request(SYN),
            lab::packets::Outcome::Dropped(Reason::NoRoute),
        ),
    ]
}

/// An endpoint in the host's own network, or one made by hand: a packet from a node address would be dropped by the stack it goes to.
#[test]
fn the_node_itself_as_backend_sees_the_clients_own_address() {
    let host = (Who::Node, 6443);
    let service = |flags| [Service::tcp(Who::Vip, 80).backend(host.0, host.1).flags(flags)];
    let from_outside = |name, flags| {
        let request = Packet::tcp(CLIENT, VIP, SYN);
        let reply = Packet::tcp(host, CLIENT, SYN | ACK).leaving();
        Case::new(name, service(flags))
            .send(
                Place::Uplink,
                request.clone(),
                ToStack(request.to(host.0, host.1)),
            )
            .send(Place::Leaving, reply.clone(), ToStack(reply.from(Who::Vip, 80)))
    };
    let pod = (Who::Pod, 40_000);
    let request = Packet::tcp(pod, VIP, SYN).from_pod();
    let reply = Packet::tcp(host, pod, SYN | ACK).hop(Mac::PodDevice, Mac::Pod);
    check([
        from_outside("though nothing says that it is local", 0),
        from_outside("though the service asks for rewritten sources", REWRITE_OUTSIDE),
        Case::new("pods too", service(REWRITE_POD))
            .send(Place::Pod, request.clone(), ToStack(request.to(host.0, host.1)))
            .send(Place::IntoPod, reply.clone(), ToStack(reply.from(Who::Vip, 80))),
    ]);
}

/// S17, S18.
#[test]
fn pods_reach_services_from_their_own_device() {
    check(clients_in_pods());
}

fn clients_in_pods() -> Vec<Case> {
    let pod = (Who::Pod, 40_000);
    let cluster_ip = (Who::ClusterIp, 80);
    let request = |flags| Packet::tcp(pod, cluster_ip, flags).from_pod();
    let service = |backend| Service::tcp(Who::ClusterIp, 80).backend(backend, 8080);
    let hairpin = Packet::tcp((Who::Node, CHOSEN), POD, SYN)
        .hop(Mac::PodDevice, Mac::Pod)
        .forwarded();
    vec![
        Case::new(
            "a pod keeps its address, and its reply is translated on the way into it",
            [service(Who::OtherPod)],
        )
        .send(
            Place::Pod,
            request(SYN),
            ToStack(request(SYN).to(Who::OtherPod, 8080)),
        )
        .send(
            Place::IntoPod,
            Packet::tcp((Who::OtherPod, 8080), pod, SYN | ACK).hop(Mac::PodDevice, Mac::Pod),
            ToStack(Packet::tcp(cluster_ip, pod, SYN | ACK).hop(Mac::PodDevice, Mac::Pod)),
        )
        .send(
            Place::Pod,
            request(ACK),
            ToStack(request(ACK).to(Who::OtherPod, 8080)),
        )
        .then("the entries", |datapath, family| {
            let (pod, cluster_ip, backend) =
                ((Who::Pod, 40_000), (Who::ClusterIp, 80), (Who::OtherPod, 8080));
            expect_flows(
                datapath,
                family,
                &[
                    Expected {
                        from: pod,
                        to: cluster_ip,
                        new_from: pod,
                        new_to: backend,
                        class: HookClass::PodIngress,
                        forward: Forward::Stack,
                        reply: false,
                    },
                    Expected {
                        from: backend,
                        to: pod,
                        new_from: cluster_ip,
                        new_to: pod,
                        class: HookClass::Egress,
                        forward: Forward::Stack,
                        reply: true,
                    },
                ],
            )
        }),
        Case::new(
            "a pod keeps its address towards another node too",
            [service(Who::RemotePod)],
        )
        .send(
            Place::Pod,
            request(SYN),
            ToStack(request(SYN).to(Who::RemotePod, 8080)),
        )
        .send(
            Place::IntoPod,
            Packet::tcp((Who::RemotePod, 8080), pod, SYN | ACK).hop(Mac::PodDevice, Mac::Pod),
            ToStack(Packet::tcp(cluster_ip, pod, SYN | ACK).hop(Mac::PodDevice, Mac::Pod)),
        ),
        Case::new(
            "a pod that is its own backend sees the node's address (S18)",
            [service(Who::Pod)],
        )
        .send(Place::Pod, request(SYN), SentBack(hairpin))
        .send(
            Place::Pod,
            Packet::tcp(POD, (Who::Node, CHOSEN), SYN | ACK).from_pod(),
            SentBack(
                Packet::tcp(cluster_ip, pod, SYN | ACK)
                    .hop(Mac::PodDevice, Mac::Pod)
                    .forwarded(),
            ),
        ),
        Case::new(
            "a service may ask for rewritten sources of pods",
            [service(Who::RemotePod).flags(REWRITE_POD)],
        )
        .send(
            Place::Pod,
            request(SYN),
            SentOut(
                Packet::tcp((Who::Node, CHOSEN), (Who::RemotePod, 8080), SYN)
                    .hop(Mac::Uplink, Mac::RemoteNode)
                    .forwarded(),
            ),
        ),
        Case::new(
            "clients inside have a list of their own",
            [service(Who::OtherPod).outside(&[(Who::RemotePod, 8080)])],
        )
        .send(
            Place::Pod,
            request(SYN),
            ToStack(request(SYN).to(Who::OtherPod, 8080)),
        ),
    ]
}
