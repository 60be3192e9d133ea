//! The next hop of a remote backend: unknown at first, or another one later.

use std::time::Duration;

use futures::TryStreamExt;
use lab::client::Outcome;
use lab::cluster_lab::Shape;
use lab::cluster_lab::conversation::Association;
use lab::netns::NsHandle;
use lab::poll;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};

use crate::on_both_shapes;
use crate::standard::{FAMILIES, FAR, Standard, name};

on_both_shapes!(
    the_first_packet_to_an_unknown_neighbour_arrives,
    a_flow_follows_its_next_hop_to_another_mac,
);

/// Less than TCP waits before it sends a SYN again, so that every first packet has to arrive.
const NO_SECOND_TRY: Duration = Duration::from_millis(900);
const SHORT: Duration = Duration::from_millis(300);
/// A flow asks the neighbour table every 4 s (and a bit); then the neighbour is found dead and asked for.
const RECOVERY: Duration = Duration::from_secs(15);

/// The IP addresses a namespace has neighbour entries for.
fn neighbours(ns: &NsHandle) -> Vec<std::net::IpAddr> {
    let netlink = ns.netlink().clone();
    let messages: Vec<_> =
        ns.block_on(async move { netlink.neighbours().get().execute().try_collect().await.unwrap() });
    let attributes = messages.into_iter().flat_map(|message| message.attributes);
    attributes
        .filter_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(v4.into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(v6.into()),
            _ => None,
        })
        .collect()
}

/// XDP leaves such a packet whole to tc. Rewritten and passed up it would be dropped as martian: its source is an address of
/// the node.
fn the_first_packet_to_an_unknown_neighbour_arrives(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let [node, other] = [0, 1].map(|index| lab.topology().node(index));
    for v6 in FAMILIES {
        assert!(
            !neighbours(node.ns()).contains(&other.address(v6)),
            "the test's own premise"
        );
        let caller = lab.client().patience(NO_SECOND_TRY);
        let to = standard.far.cluster_ip(v6);
        // TCP to one family, UDP to the other: each is the first to need the neighbour.
        let outcome = if v6 { caller.udp(to) } else { caller.tcp(to) };
        assert_eq!(outcome.by(), Some(name(FAR[0])), "{outcome}\n{}", lab.account());
    }
}

/// `bpf_fib_lookup` alone would return the dead address for ever.
fn a_flow_follows_its_next_hop_to_another_mac(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let [node, other] = [0, 1].map(|index| lab.topology().node(index));
    for family in ["ipv4", "ipv6"] {
        // The kernel's own share of the wait, in seconds and milliseconds instead of the better part of a minute.
        let neigh = format!("net/{family}/neigh/eth0");
        node.ns()
            .sysctl(&format!("{neigh}/base_reachable_time_ms"), "500")
            .unwrap();
        node.ns()
            .sysctl(&format!("{neigh}/delay_first_probe_time"), "1")
            .unwrap();
        node.ns()
            .sysctl(&format!("{neigh}/retrans_time_ms"), "100")
            .unwrap();
    }
    let flows = FAMILIES.map(|v6| {
        let client = lab.topology().client().ns();
        let flow = Association::open(client, 0, standard.far.cluster_ip(v6)).unwrap();
        assert_eq!(flow.request(NO_SECOND_TRY).by(), Some(name(FAR[0])));
        flow
    });
    other
        .host()
        .uplink()
        .set_mac([0x02, 0x78, 0x76, 0x6c, 0xff, 0x01])
        .unwrap();
    for flow in flows {
        let recovered = poll::until("the flow on its new way", RECOVERY, || {
            match flow.request(SHORT) {
                Outcome::Answered(answer) => Ok(answer.pod),
                other => Err(other.to_string()),
            }
        });
        let recovered = recovered.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.account()));
        assert_eq!(recovered, name(FAR[0]));
    }
}
