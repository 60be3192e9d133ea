//! Source ports: claimed by the reply's entry, never shared.

use lab::packets::Outcome::{Dropped, SentBack, ToStack, Untouched};
use lab::packets::{
    CHOSEN, Case, Family, Hook, Mac, Options, Packet, Place, Run, Service, Testbed, Verdict, Who, check,
    check_with, flags,
};
use lab::packets::{Datapath, Outcome};
use lb_common::reason::Reason;
use std::net::UdpSocket;

use flags::{ACK, SYN};

fn remote() -> [Service; 1] {
    [Service::tcp(Who::Vip, 80).backend(Who::RemotePod, 8080)]
}

fn syn(n: u8) -> Packet {
    Packet::tcp((Who::Crowd(n), 40_000), (Who::Vip, 80), SYN)
}

fn sent(packet: Packet) -> Outcome {
    SentBack(
        packet
            .from(Who::Node, CHOSEN)
            .to(Who::RemotePod, 8080)
            .hop(Mac::Uplink, Mac::RemoteNode)
            .forwarded(),
    )
}

/// S19.
#[test]
fn two_connections_never_share_a_rewritten_source() {
    let options = Options {
        snat_ports: (61_000, 2),
        ..Options::default()
    };
    check_with(
        options,
        [
            Case::new(
                "two clients take the two ports there are, and a third finds none",
                remote(),
            )
            .send(Place::Uplink, syn(1), sent(syn(1)))
            .send(Place::Uplink, syn(2), sent(syn(2)))
            .then("the two ports differ", |datapath, family| {
                let flows = datapath.flows(family)?;
                let mut ports: Vec<u16> = flows
                    .iter()
                    .filter(|flow| flow.reply)
                    .map(|flow| flow.dst.port())
                    .collect();
                ports.sort_unstable();
                anyhow::ensure!(ports == [61_000, 61_001], "reply entries claim {ports:?}");
                Ok(())
            })
            .send(Place::Uplink, syn(3), Dropped(Reason::PortsExhausted))
            .send(Place::Uplink, syn(1), sent(syn(1))),
            Case::new(
                "another backend has ports of its own",
                [
                    remote().into_iter().next().expect("one"),
                    Service::tcp(Who::OtherVip, 80).backend(Who::OtherRemotePod, 8080),
                ],
            )
            .send(Place::Uplink, syn(1), sent(syn(1)))
            .send(Place::Uplink, syn(2), sent(syn(2)))
            .send(
                Place::Uplink,
                syn(3).to(Who::OtherVip, 80),
                SentBack(
                    syn(3)
                        .from(Who::Node, CHOSEN)
                        .to(Who::OtherRemotePod, 8080)
                        .hop(Mac::Uplink, Mac::RemoteNode)
                        .forwarded(),
                ),
            ),
        ],
    );
}

/// S19.
#[test]
fn a_kept_source_whose_reply_tuple_is_taken_gets_another_port() {
    let client = (Who::Client, 40_000);
    let service = Service::tcp(Who::Vip, 80)
        .also_at(Who::OtherVip, 80)
        .backend(Who::Pod, 8080);
    let syn = |vip| Packet::tcp(client, (vip, 80), SYN);
    let ack = |vip| Packet::tcp(client, (vip, 80), ACK);
    let reply = |port| Packet::tcp((Who::Pod, 8080), (Who::Client, port), SYN | ACK).leaving();
    check([
        Case::new("same client and port, two VIPs, one backend (S19)", [service])
            .send(
                Place::Uplink,
                syn(Who::Vip),
                ToStack(syn(Who::Vip).to(Who::Pod, 8080)),
            )
            .send(
                Place::Uplink,
                syn(Who::OtherVip),
                ToStack(syn(Who::OtherVip).from(Who::Client, CHOSEN).to(Who::Pod, 8080)),
            )
            .send(
                Place::Leaving,
                reply(40_000),
                ToStack(reply(40_000).from(Who::Vip, 80)),
            )
            .send(
                Place::Leaving,
                reply(CHOSEN),
                ToStack(reply(CHOSEN).from(Who::OtherVip, 80).to(Who::Client, 40_000)),
            )
            .send(
                Place::Uplink,
                ack(Who::OtherVip),
                ToStack(ack(Who::OtherVip).from(Who::Client, CHOSEN).to(Who::Pod, 8080)),
            )
            .send(
                Place::Uplink,
                ack(Who::Vip),
                ToStack(ack(Who::Vip).to(Who::Pod, 8080)),
            ),
    ]);
}

/// S19, S31.
#[test]
fn a_node_port_number_of_a_connected_host_socket_is_the_hosts() {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options::default()).expect("the kernel object");
    for family in Family::BOTH {
        datapath.reset(&bed).expect("empty maps");
        let service = Service::udp(Who::ClusterIp, 53)
            .backend(Who::Pod, 5353)
            .node_port(30_053);
        datapath.install(family, &[service]).expect("a service");
        let socket = UdpSocket::bind((Who::Node.ip(family), 30_053)).expect("the nodePort's number");
        let packet = Packet::udp((Who::Client, 40_000), (Who::Node, 30_053));
        let frame = packet.frame(family);

        // Listening does not take the port from the service (S31).
        let run = Hook::UplinkIn.run(&datapath, &bed, &frame).expect("a run");
        assert_eq!(
            run.frame,
            packet.clone().to(Who::Pod, 5353).frame(family),
            "{family:?}: shadowed by a listener"
        );

        // A connected socket's own peer does (S19).
        datapath.forget_flows(family).expect("no flows");
        socket.connect((Who::Client.ip(family), 40_000)).expect("a peer");
        for hook in [Hook::UplinkXdp, Hook::UplinkIn] {
            let run = hook.run(&datapath, &bed, &frame).expect("a run");
            assert_eq!(
                run,
                Run {
                    verdict: Verdict::Pass,
                    frame: frame.clone()
                },
                "{family:?}, {hook:?}"
            );
        }
        assert_eq!(datapath.flows(family).expect("flows"), [], "{family:?}");
    }
}

#[test]
fn replies_to_a_claimed_port_from_somebody_else_are_not_ours() {
    check([Case::new("another source", remote())
        .send(Place::Uplink, syn(1), sent(syn(1)))
        .send(
            Place::Uplink,
            Packet::tcp((Who::OtherRemotePod, 8080), (Who::Node, CHOSEN), ACK)
                .hop(Mac::RemoteNode, Mac::Uplink),
            Untouched(Reason::MidFlow),
        )]);
}
