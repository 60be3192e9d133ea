//! The next hop of a remote backend: unknown at first, or another one later.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::TryStreamExt;
use lab::client::Outcome;
use lab::cluster_lab::conversation::Association;
use lab::cluster_lab::{ClusterLab, Shape};
use lab::netns::NsHandle;
use lab::poll;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};

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

/// The state of a namespace's neighbour entry for an address, if it has one.
fn neighbour(ns: &NsHandle, address: IpAddr) -> Option<NeighbourState> {
    let netlink = ns.netlink().clone();
    let messages: Vec<_> =
        ns.block_on(async move { netlink.neighbours().get().execute().try_collect().await.unwrap() });
    let wanted = NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    });
    let found = messages
        .into_iter()
        .find(|message| message.attributes.contains(&wanted));
    found.map(|message| message.header.state)
}

/// How a node's datapath sends on what the client says to a frontend.
fn way(lab: &ClusterLab, to: SocketAddr) -> String {
    let flows = lab.agent(0).xvip_json(&["get", "flows"]).unwrap();
    let mut rows = flows.as_array().into_iter().flatten();
    let row = rows.find(|row| row["frontend"] == to.to_string());
    row.and_then(|row| row["forward"]["forward"].as_str())
        .unwrap_or("no flow")
        .to_owned()
}

/// XDP leaves such a packet whole to tc. Rewritten and passed up it would be dropped as martian: its source is an address of
/// the node.
fn the_first_packet_to_an_unknown_neighbour_arrives(shape: Shape) {
    let standard = Standard::running(shape);
    let lab = &standard.lab;
    let [node, other] = [0, 1].map(|index| lab.topology().node(index));
    for v6 in FAMILIES {
        assert_eq!(
            neighbour(node.ns(), other.address(v6)),
            None,
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
    // The other node must not ask for this one: the kernel's answer would go through the neighbour entry and keep it alive.
    for v6 in FAMILIES {
        let mac = node.host().uplink().mac();
        other
            .host()
            .uplink()
            .add_neighbour(node.address(v6), mac)
            .unwrap();
    }
    let client = lab.topology().client().ns();
    let flows = FAMILIES.map(|v6| Association::open(client, 0, standard.far.cluster_ip(v6)).unwrap());
    for (v6, flow) in FAMILIES.into_iter().zip(&flows) {
        poll::until("the datapath sending by itself", RECOVERY, || {
            flow.request(SHORT).by().map(drop).ok_or("no answer")?;
            let way = way(lab, standard.far.cluster_ip(v6));
            if way == "redirect" { Ok(()) } else { Err(way) }
        })
        .unwrap();
    }
    let old = other.host().uplink().mac();
    other
        .host()
        .uplink()
        .set_mac([0x02, 0x78, 0x76, 0x6c, 0xff, 0x01])
        .unwrap();
    // The kernel has lost interest in the neighbour: it takes a packet through its entry to find out.
    for v6 in FAMILIES {
        let (netlink, index) = (node.ns().netlink().clone(), node.host().uplink().index());
        let stale = netlink
            .neighbours()
            .add(index, other.address(v6))
            .state(NeighbourState::Stale)
            .link_layer_address(&old)
            .replace();
        node.ns().block_on(async move { stale.execute().await }).unwrap();
        assert_eq!(
            neighbour(node.ns(), other.address(v6)),
            Some(NeighbourState::Stale)
        );
    }
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
