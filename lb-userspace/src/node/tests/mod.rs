//! Pictures of hosts, and what is to be made of them.

mod addresses;
mod decoding;
mod devices;
mod live;

use super::{Address, DefaultRoute, Link, LinkKind, NodeState, Scope};

/// Makes a picture.
#[derive(Default)]
struct Host(NodeState);

/// A link with its addresses, as `ip addr` shows them; `fe80` ones have link scope, those on `lo` host scope unless
/// they are no loopback addresses.
fn link(kind: LinkKind, name: &str, addresses: &[&str]) -> Link {
    let addresses = addresses.iter().map(|text| {
        let net: ipnet::IpNet = text.parse().unwrap();
        Address {
            net,
            scope: if net.addr().is_loopback() {
                Scope::Host
            } else if text.starts_with("fe80") {
                Scope::Link
            } else {
                Scope::Global
            },
            secondary: false,
            deprecated: false,
            tentative: false,
            duplicate: false,
        }
    });
    Link {
        name: name.to_owned(),
        mac: (kind != LinkKind::Loopback).then_some([2, 0, 0, 0, 0, 1]),
        kind,
        up: true,
        master: None,
        lower: None,
        lower_elsewhere: false,
        mtu: 1500,
        strips_vlan: None,
        addresses: addresses.collect(),
    }
}

/// The host's end of a veth whose other end is elsewhere.
fn pod(name: &str, addresses: &[&str]) -> Link {
    Link {
        lower: Some(2),
        lower_elsewhere: true,
        ..link(LinkKind::Veth, name, addresses)
    }
}

impl Host {
    /// With `lo` as device 1.
    fn new() -> Self {
        Self::default().with(1, link(LinkKind::Loopback, "lo", &["127.0.0.1/8", "::1/128"]))
    }

    fn with(mut self, ifindex: u32, link: Link) -> Self {
        self.0.links.insert(ifindex, link);
        self
    }

    fn default_route(mut self, device: u32, preferred_source: Option<&str>) -> Self {
        let preferred_source = preferred_source.map(|text| text.parse().unwrap());
        self.0.default_routes.push(DefaultRoute {
            device,
            ipv6: preferred_source.is_some_and(|address: std::net::IpAddr| address.is_ipv6()),
            preferred_source,
            metric: 0,
        });
        self
    }
}
