//! rtnetlink's messages as [`NodeState`](super::state::NodeState)'s types. Pure: a message in, a value out.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
};

use super::state::{Address, DefaultRoute, Link, LinkKind, Scope};

/// A link by its index, without addresses.
pub(super) fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let mut link = Link {
        name: String::new(),
        mac: None,
        kind: kind(message),
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        lower: None,
        lower_elsewhere: false,
        mtu: 0,
        strips_vlan: None,
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = bytes.as_slice().try_into().ok();
            }
            LinkAttribute::Controller(master) => link.master = Some(*master),
            LinkAttribute::Link(lower) if *lower != 0 => link.lower = Some(*lower),
            LinkAttribute::LinkNetNsId(_) => link.lower_elsewhere = true,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some((message.header.index, link))
}

fn kind(message: &LinkMessage) -> LinkKind {
    if message.header.link_layer_type == LinkLayerType::Loopback {
        return LinkKind::Loopback;
    }
    let info = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    });
    match info {
        None => LinkKind::Physical,
        Some(InfoKind::Veth) => LinkKind::Veth,
        Some(InfoKind::Netkit) => LinkKind::Netkit,
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(InfoKind::Bond) => LinkKind::Bond,
        Some(InfoKind::Vlan) => LinkKind::Vlan,
        Some(InfoKind::MacVlan) => LinkKind::MacVlan,
        Some(InfoKind::Dummy) => LinkKind::Dummy,
        Some(
            InfoKind::Vxlan
            | InfoKind::Geneve
            | InfoKind::IpIp
            | InfoKind::Ip6Tnl
            | InfoKind::SitTun
            | InfoKind::GreTun
            | InfoKind::GreTun6
            | InfoKind::GreTap
            | InfoKind::GreTap6
            | InfoKind::Vti
            | InfoKind::Vti6
            | InfoKind::Xfrm
            | InfoKind::BareUdp
            | InfoKind::Wireguard,
        ) => LinkKind::Tunnel,
        Some(other) => LinkKind::Other(other.to_string()),
    }
}

/// An address and the index of its link.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, Address)> {
    let header = &message.header;
    let mut own = None;
    let mut flags = flags_of_header(header.flags);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the other end's.
            AddressAttribute::Local(ip) => own = Some(*ip),
            AddressAttribute::Address(ip) => own = own.or(Some(*ip)),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let address = Address {
        net: IpNet::new(own?, header.prefix_len).ok()?,
        scope: match header.scope {
            AddressScope::Link => Scope::Link,
            AddressScope::Host | AddressScope::Nowhere => Scope::Host,
            _ => Scope::Global,
        },
        secondary: flags.contains(AddressFlags::Secondary),
        deprecated: flags.contains(AddressFlags::Deprecated),
        tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    };
    Some((header.index, address))
}

/// The header holds the low byte of the flags.
fn flags_of_header(flags: AddressHeaderFlags) -> AddressFlags {
    AddressFlags::from_bits_retain(u32::from(flags.bits()))
}

/// The default routes in a message of the main table: one for each device of a multipath route.
pub(super) fn default_routes(message: &RouteMessage) -> Vec<DefaultRoute> {
    if !is_default(message) || message.header.flags.contains(RouteFlags::Dead) {
        return Vec::new();
    }
    let mut table = u32::from(message.header.table);
    let mut preferred_source = None;
    let mut metric = 0;
    let mut devices = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => preferred_source = Some(IpAddr::V4(*ip)),
            RouteAttribute::PrefSource(RouteAddress::Inet6(ip)) => preferred_source = Some(IpAddr::V6(*ip)),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(index) => devices.push(*index),
            RouteAttribute::MultiPath(hops) => {
                let alive = hops
                    .iter()
                    .filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead));
                devices.extend(alive.map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return Vec::new();
    }
    devices.dedup();
    let ipv6 = message.header.address_family == AddressFamily::Inet6;
    let route = |device| DefaultRoute {
        device,
        ipv6,
        preferred_source,
        metric,
    };
    devices.into_iter().map(route).collect()
}

/// Whether a route is for everything, in whatever table.
pub(super) fn is_default(message: &RouteMessage) -> bool {
    message.header.destination_prefix_length == 0 && message.header.kind == RouteType::Unicast
}
