//! Who may use a load-balancer address (S23, S27), and that nothing else is asked before (S46).

use anyhow::Result;
use lab::packets::Outcome::{Answered, Dropped, ToStack};
use lab::packets::{Case, Datapath, Family, Net, Outcome, Packet, Place, Service, Who, check, flags};
use lb_common::reason::Reason;
use lb_common::service::flags::{INSIDE_DROP, OUTSIDE_DROP};

use flags::{ACK, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const CROWD: (Who, u16) = (Who::Crowd(1), 40_000);
const POD: (Who, u16) = (Who::Pod, 40_000);
const VIP: (Who, u16) = (Who::Vip, 80);

/// The network of the client and the stranger, next to which the crowd lives.
const WIRE: Net = Net { v4: 24, v6: 120 };
const POD_NET: Net = Net { v4: 24, v6: 64 };

fn web() -> Service {
    Service::tcp(Who::Vip, 80).backend(Who::OtherPod, 8080)
}

fn syn(client: (Who, u16)) -> Packet {
    Packet::tcp(client, VIP, SYN)
}

fn served(packet: &Packet) -> Outcome {
    ToStack(packet.clone().to(Who::OtherPod, 8080))
}

const KEPT_OUT: Outcome = Dropped(Reason::SourceRange);

#[test]
fn s23_clients_outside_the_source_ranges_are_dropped() {
    let dns = Service::udp(Who::Vip, 53).backend(Who::OtherPod, 5353);
    let query = |client| Packet::udp(client, (Who::Vip, 53));
    check([
        Case::new("one address", [web().source(Who::Client, Net::HOST)])
            .send(Place::Uplink, syn(CLIENT), served(&syn(CLIENT)))
            .send(Place::Uplink, syn((Who::Stranger, 40_000)), KEPT_OUT)
            .send(Place::Uplink, syn(CROWD), KEPT_OUT),
        Case::new("a network", [web().source(Who::Client, WIRE)])
            .send(Place::Uplink, syn(CLIENT), served(&syn(CLIENT)))
            .send(Place::Uplink, syn(CROWD), KEPT_OUT),
        Case::new(
            "one of several networks, one inside the other",
            [web()
                .source(Who::FarPod, Net::HOST)
                .source(Who::Client, WIRE)
                .source(Who::Client, Net::HOST)],
        )
        .send(Place::Uplink, syn(CLIENT), served(&syn(CLIENT)))
        .send(Place::Uplink, syn(CROWD), KEPT_OUT),
        Case::new("datagrams too", [dns.source(Who::Client, Net::HOST)])
            .send(Place::Uplink, query(CROWD), KEPT_OUT)
            .send(
                Place::Uplink,
                query(CLIENT),
                ToStack(query(CLIENT).to(Who::OtherPod, 5353)),
            ),
        Case::new(
            "and again with every packet that could begin one",
            [web().source(Who::Client, Net::HOST)],
        )
        .send(Place::Uplink, syn(CROWD), KEPT_OUT)
        .send(Place::Uplink, syn(CROWD), KEPT_OUT)
        .send(Place::Uplink, syn(CROWD).with_extra_headers(), KEPT_OUT),
    ]);
}

#[test]
fn s27_pods_and_nodes_need_to_be_in_range_like_everybody() {
    let from_pod = || syn(POD).from_pod();
    let node = (Who::Stranger, 40_000);
    check([
        Case::new(
            "a pod that is in no range",
            [web().source(Who::Client, Net::HOST)],
        )
        .send(Place::Pod, from_pod(), KEPT_OUT),
        Case::new("a pod that is in one", [web().source(Who::Pod, POD_NET)])
            .send(Place::Pod, from_pod(), served(&from_pod()))
            .send(Place::Uplink, syn(CLIENT), KEPT_OUT),
        Case::new(
            "another node that is in none",
            [web().source(Who::Client, Net::HOST)],
        )
        .send(Place::Uplink, syn(node), KEPT_OUT),
        Case::new(
            "another node that is in one",
            [web().source(Who::Stranger, Net::HOST)],
        )
        .send(Place::Uplink, syn(node), served(&syn(node))),
    ]);
}

#[test]
fn s27_other_addresses_of_the_service_are_open_to_all() {
    let open = || {
        Service::tcp(Who::ClusterIp, 80)
            .also_at(Who::OtherVip, 80)
            .node_port(30_080)
            .backend(Who::OtherPod, 8080)
    };
    let case = |name, to: (Who, u16)| {
        let packet = Packet::tcp(CROWD, to, SYN);
        let outcome = served(&packet);
        Case::new(name, [web().source(Who::Client, Net::HOST), open()])
            .send(Place::Uplink, syn(CROWD), KEPT_OUT)
            .send(Place::Uplink, packet, outcome)
    };
    check([
        case("its cluster IP", (Who::ClusterIp, 80)),
        case("an external IP", (Who::OtherVip, 80)),
        case("its nodePort", (Who::Node, 30_080)),
    ]);
}

#[test]
fn the_ranges_of_one_service_are_not_anothers() {
    let other = Service::tcp(Who::OtherVip, 80)
        .backend(Who::OtherPod, 8080)
        .source(Who::Crowd(1), Net::HOST);
    let to_other = |client| Packet::tcp(client, (Who::OtherVip, 80), SYN);
    check([
        Case::new("two services", [web().source(Who::Client, Net::HOST), other])
            .send(Place::Uplink, syn(CROWD), KEPT_OUT)
            .send(Place::Uplink, to_other(CLIENT), KEPT_OUT)
            .send(Place::Uplink, syn(CLIENT), served(&syn(CLIENT)))
            .send(Place::Uplink, to_other(CROWD), served(&to_other(CROWD))),
    ]);
}

#[test]
fn s46_source_ranges_come_before_reject_and_local_drop() {
    let nobody = || Service::tcp(Who::Vip, 80).source(Who::Client, Net::HOST);
    let reset = Answered(syn(CLIENT).reset(), Reason::Rejected);
    check([
        Case::new(
            "no endpoints: those in range are told, the others are not",
            [nobody()],
        )
        .send(Place::Uplink, syn(CROWD), KEPT_OUT)
        .send(Place::Pod, syn(POD).from_pod(), KEPT_OUT)
        .send(Place::Uplink, syn(CLIENT), reset),
        Case::new(
            "endpoints elsewhere",
            [nobody().flags(INSIDE_DROP | OUTSIDE_DROP)],
        )
        .send(Place::Uplink, syn(CROWD), KEPT_OUT)
        .send(Place::Pod, syn(POD).from_pod(), KEPT_OUT)
        .send(Place::Uplink, syn(CLIENT), Dropped(Reason::NoLocalEndpoints)),
    ]);
}

/// Another set, as the agent would write it: the crowd is in, the client is not.
fn switch_sets(datapath: &mut Datapath, family: Family) -> Result<()> {
    datapath.add_source(9, family, Who::Crowd(1), Net::HOST)?;
    datapath.record(1, |record| record.sources = 9)
}

#[test]
fn changed_ranges_are_asked_of_new_connections_alone() {
    let ack = || Packet::tcp(CLIENT, VIP, ACK);
    let later = (Who::Client, 40_001);
    check([Case::new(
        "a client that is no longer in range",
        [web().source(Who::Client, Net::HOST)],
    )
    .send(Place::Uplink, syn(CLIENT), served(&syn(CLIENT)))
    .then("the ranges change", switch_sets)
    .send(Place::Uplink, ack(), served(&ack()))
    .send(Place::Uplink, syn(CLIENT), served(&syn(CLIENT)))
    .send(Place::Uplink, syn(later), KEPT_OUT)
    .send(Place::Uplink, syn(CROWD), served(&syn(CROWD)))]);
}

#[test]
fn a_set_without_ranges_holds_nobody() {
    check([Case::new("a record that names it", [web()])
        .then("the record names it", |datapath, _| {
            datapath.record(1, |record| record.sources = 9)
        })
        .send(Place::Uplink, syn(CLIENT), KEPT_OUT)]);
}
