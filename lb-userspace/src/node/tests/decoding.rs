//! rtnetlink messages the kernel sends in cases that a small test namespace does not show.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
};

use super::super::decode;
use super::*;

fn route(attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.kind = RouteType::Unicast;
    message.header.table = 254;
    message.attributes = attributes;
    message
}

fn hop(interface_index: u32, flags: RouteNextHopFlags) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = interface_index;
    hop.flags = flags;
    hop
}

#[test]
fn default_routes_are_told_from_others() {
    let devices = |message: &RouteMessage| -> Vec<u32> {
        decode::default_routes(message)
            .iter()
            .map(|route| route.device)
            .collect()
    };
    let plain = route(vec![RouteAttribute::Oif(7)]);
    assert_eq!(devices(&plain), [7]);

    let mut subnet = plain.clone();
    subnet.header.destination_prefix_length = 24;
    let mut unreachable = plain.clone();
    unreachable.header.kind = RouteType::Unreachable;
    let mut dead = plain.clone();
    dead.header.flags |= RouteFlags::Dead;
    let other_table = route(vec![RouteAttribute::Table(1000), RouteAttribute::Oif(7)]);
    for message in [subnet, unreachable, dead, other_table] {
        assert_eq!(devices(&message), Vec::<u32>::new(), "{message:?}");
    }

    let hops = vec![
        hop(3, RouteNextHopFlags::empty()),
        hop(4, RouteNextHopFlags::Dead),
        hop(5, RouteNextHopFlags::empty()),
    ];
    assert_eq!(devices(&route(vec![RouteAttribute::MultiPath(hops)])), [3, 5]);
}

#[test]
fn a_preferred_source_and_a_metric_are_kept() {
    let source = Ipv4Addr::new(192, 0, 2, 1);
    let message = route(vec![
        RouteAttribute::Oif(7),
        RouteAttribute::Priority(100),
        RouteAttribute::PrefSource(RouteAddress::Inet(source)),
    ]);
    let routes = decode::default_routes(&message);
    assert_eq!(routes[0].preferred_source, Some(IpAddr::V4(source)));
    assert_eq!(routes[0].metric, 100);
}

/// On a point-to-point link IFA_ADDRESS is the other end's.
#[test]
fn the_nodes_own_end_of_a_point_to_point_link_is_its_address() {
    let (own, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    for attributes in [
        vec![AddressAttribute::Address(other), AddressAttribute::Local(own)],
        vec![AddressAttribute::Local(own), AddressAttribute::Address(other)],
    ] {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 32;
        message.header.index = 5;
        message.header.scope = AddressScope::Universe;
        message.attributes = attributes;
        let (index, address) = decode::address(&message).unwrap();
        assert_eq!((index, address.ip(), address.scope), (5, own, Scope::Global));
    }
}

#[test]
fn a_device_is_what_its_driver_says() {
    let cases = [
        (None, LinkKind::Physical),
        (Some(InfoKind::Veth), LinkKind::Veth),
        (Some(InfoKind::Wireguard), LinkKind::Tunnel),
        (Some(InfoKind::Tun), LinkKind::Other("tun".to_owned())),
        (
            Some(InfoKind::Other("newest".to_owned())),
            LinkKind::Other("newest".to_owned()),
        ),
    ];
    for (info, expected) in cases {
        let mut message = LinkMessage::default();
        message.header.index = 3;
        message.attributes.push(LinkAttribute::IfName("dev".to_owned()));
        message
            .attributes
            .extend(info.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
        assert_eq!(decode::link(&message).unwrap().1.kind, expected);
    }
}
