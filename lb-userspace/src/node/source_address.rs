//! The address a packet gets as rewritten source when it leaves by a device (S19): the one the kernel would choose, but that it
//! avoids addresses that are likely not this node's for long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::node_addresses::is_ipvs;
use super::state::{Address, NodeState};
use crate::model::IpFamily;

/// The addresses for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceAddresses {
    /// For IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// What packets that leave by `ifindex` get as source.
pub(super) fn of_device(state: &NodeState, ifindex: u32) -> SourceAddresses {
    SourceAddresses {
        v4: match choose(state, ifindex, IpFamily::V4) {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        },
        v6: match choose(state, ifindex, IpFamily::V6) {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        },
    }
}

fn choose(state: &NodeState, ifindex: u32, family: IpFamily) -> Option<IpAddr> {
    // A port of a bridge sends what was routed to the bridge.
    let routed = state
        .links
        .get(&ifindex)
        .and_then(|link| link.master)
        .unwrap_or(ifindex);
    let own =
        |ifindex| preferred(state, ifindex, family).or_else(|| of(state, ifindex, family).map(Address::ip));
    own(ifindex).or_else(|| own(routed)).or_else(|| {
        let others = state.links.iter().filter(|(_, link)| link.up);
        let others = others.filter_map(|(other, _)| of(state, *other, family));
        others.min_by_key(|address| address.is_alone()).map(Address::ip)
    })
}

fn preferred(state: &NodeState, ifindex: u32, family: IpFamily) -> Option<IpAddr> {
    state
        .default_routes
        .iter()
        .filter(|route| route.device == ifindex)
        .filter_map(|route| route.preferred_source)
        .find(|address| IpFamily::of(*address) == family)
}

/// The first address of a device, but for those with no network around them: such a one often moves between nodes (a
/// load balancer's), and IPv6 lists the newest first.
fn of(state: &NodeState, ifindex: u32, family: IpFamily) -> Option<&Address> {
    let link = state.links.get(&ifindex)?;
    if is_ipvs(&link.name) {
        return None;
    }
    let sources = link.addresses.iter().filter(|address| address.is_source());
    let sources = sources.filter(|address| IpFamily::of(address.ip()) == family);
    sources.min_by_key(|address| address.is_alone())
}
