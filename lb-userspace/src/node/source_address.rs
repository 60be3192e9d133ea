//! The address a packet gets as rewritten source when it leaves by a device (S19): the one the kernel would choose.

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
    preferred(state, ifindex, family)
        .or_else(|| first_of(state, ifindex, family))
        .or_else(|| preferred(state, routed, family))
        .or_else(|| first_of(state, routed, family))
        .or_else(|| {
            let mut others = state.links.iter().filter(|(_, link)| link.up);
            others.find_map(|(other, _)| first_of(state, *other, family))
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

fn first_of(state: &NodeState, ifindex: u32, family: IpFamily) -> Option<IpAddr> {
    let link = state.links.get(&ifindex)?;
    if is_ipvs(&link.name) {
        return None;
    }
    let mut sources = link.addresses.iter().filter(|address| address.is_source());
    sources
        .find(|address| IpFamily::of(address.ip()) == family)
        .map(Address::ip)
}
