//! Pods of other nodes, which come in by an uplink and are known by their addresses (`clusterCIDRs`).

use lab::packets::Outcome::{Dropped, SentByTc, SentSomehow, ToStack};
use lab::packets::{CHOSEN, Case, Mac, Options, Packet, Place, Service, Who, check, check_with, flags};
use lb_common::reason::Reason;
use lb_common::service::flags::{OUTSIDE_DROP, REWRITE_OUTSIDE, REWRITE_POD};

use flags::SYN;

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const REMOTE_POD: (Who, u16) = (Who::RemotePod, 40_000);
const CLUSTER_IP: (Who, u16) = (Who::ClusterIp, 80);

fn request(client: (Who, u16)) -> Packet {
    Packet::tcp(client, CLUSTER_IP, SYN)
}

fn service(backend: Who) -> Service {
    Service::tcp(Who::ClusterIp, 80).backend(backend, 8080)
}

/// To a pod of this node, by the name of the node.
fn rewritten() -> Packet {
    Packet::tcp((Who::Node, CHOSEN), (Who::Pod, 8080), SYN)
        .hop(Mac::PodDevice, Mac::Pod)
        .forwarded()
}

/// S16, S17: the lists and the rewriting of clients inside.
#[test]
fn a_pod_of_another_node_is_a_client_inside_where_its_addresses_are_known() {
    let known = Options {
        pods_known: true,
        ..Options::default()
    };
    let to = |who, client| ToStack(request(client).to(who, 8080));
    check_with(
        known,
        [
            Case::new(
                "it gets the list of clients inside, others do not",
                [service(Who::Pod).outside(&[(Who::OtherPod, 8080)])],
            )
            .send(Place::Uplink, request(REMOTE_POD), to(Who::Pod, REMOTE_POD))
            .send(Place::Uplink, request(CLIENT), to(Who::OtherPod, CLIENT)),
            Case::new(
                "what an empty list means is that of clients inside too",
                [service(Who::Pod).outside(&[]).flags(OUTSIDE_DROP)],
            )
            .send(Place::Uplink, request(REMOTE_POD), to(Who::Pod, REMOTE_POD))
            .send(Place::Uplink, request(CLIENT), Dropped(Reason::NoLocalEndpoints)),
            Case::new(
                "its address is kept where only those of clients outside are not",
                [service(Who::Pod).flags(REWRITE_OUTSIDE)],
            )
            .send(Place::Uplink, request(REMOTE_POD), to(Who::Pod, REMOTE_POD))
            .send(Place::Uplink, request(CLIENT), SentByTc(rewritten())),
            Case::new(
                "and rewritten where pods' are",
                [service(Who::Pod).flags(REWRITE_POD)],
            )
            .send(Place::Uplink, request(CLIENT), to(Who::Pod, CLIENT))
            .send(Place::Uplink, request(REMOTE_POD), SentByTc(rewritten())),
            Case::new(
                "a backend on a third node would answer it past us",
                [service(Who::OtherRemotePod)],
            )
            .send(
                Place::Uplink,
                request(REMOTE_POD),
                SentSomehow(
                    Packet::tcp((Who::Node, CHOSEN), (Who::OtherRemotePod, 8080), SYN)
                        .hop(Mac::Uplink, Mac::RemoteNode)
                        .forwarded(),
                ),
            ),
        ],
    );
}

/// S17.
#[test]
fn a_pod_of_another_node_is_a_client_outside_where_nobody_says_which_addresses_pods_have() {
    check([Case::new(
        "the list of clients outside",
        [service(Who::Pod).outside(&[(Who::OtherPod, 8080)])],
    )
    .send(
        Place::Uplink,
        request(REMOTE_POD),
        ToStack(request(REMOTE_POD).to(Who::OtherPod, 8080)),
    )]);
}
