//! What the host's network and the Node object mean, put together.
//!
//! Owns: the one view of this node that planner, node addresses and devices follow from. Pure. Must not know: netlink, maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::addr::{Addr, Addr4, Addr6};
use lb_common::node_addr::NODE_PORTS;

use crate::config::Config;
use crate::dataplane::{self, Target, XdpAttach};
use crate::model::Node;
use crate::node::{DeviceChoice, DeviceSettings, NodeState, Role, Xdp, node_addresses, select_devices};
use crate::plan::ThisNode;

/// This node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// What plans depend on.
    pub node: ThisNode,
    /// The host's addresses, each with whether nodePorts are served there.
    pub addresses: BTreeMap<IpAddr, bool>,
    /// The devices programs belong on, by number.
    pub devices: BTreeMap<u32, DeviceChoice>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Host {
    /// Puts it together; `object` is this node's Node object, where there is one.
    #[must_use]
    pub fn new(state: &NodeState, config: &Config, name: &str, object: Option<&Node>) -> Self {
        let settings = DeviceSettings {
            devices: &config.devices,
            pod_devices: &config.pod_devices,
            xdp_mode: config.xdp_mode,
        };
        let internal = object.map(|node| node.internal_ips.as_slice());
        let selection = select_devices(state, &settings, internal.unwrap_or_default());
        let addresses = node_addresses(state, &config.node_port_addresses, internal, &selection.devices);
        Self {
            node: ThisNode {
                name: name.to_owned(),
                zone: object.and_then(|node| node.zone.clone()),
                addresses: addresses.keys().copied().collect(),
            },
            addresses,
            devices: selection
                .devices
                .into_iter()
                .map(|device| (device.ifindex, device))
                .collect(),
            warnings: selection.warnings,
        }
    }

    /// The addresses at which nodePorts are served.
    pub fn serving_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let serving = self.addresses.iter().filter(|(_, serves)| **serves);
        serving.map(|(ip, _)| *ip)
    }

    /// The content of map `node_addrs`.
    #[must_use]
    pub fn address_entries(&self) -> Vec<(Addr, u32)> {
        let entries = self.addresses.iter();
        entries
            .map(|(ip, serves)| (Addr::from(*ip), if *serves { NODE_PORTS } else { 0 }))
            .collect()
    }
}

/// What the dataplane is to attach for a device.
#[must_use]
pub fn target(device: &DeviceChoice) -> Target {
    let xdp = match device.xdp {
        Xdp::Native { .. } => XdpAttach::Native,
        Xdp::Generic => XdpAttach::Generic,
        Xdp::None(_) => XdpAttach::Off,
    };
    Target {
        ifindex: device.ifindex,
        name: device.name.clone(),
        role: match device.role {
            Role::Uplink => dataplane::Role::Uplink(xdp),
            Role::Pod => dataplane::Role::Pod,
            Role::Loopback => dataplane::Role::Loopback,
        },
        mac: device.mac.unwrap_or_default(),
        addr4: device.sources.v4.map(Addr4::from),
        addr6: device.sources.v6.map(Addr6::from),
        // A driver that runs XDP natively takes frames to transmit; on a veth its peer must, which the user vouches for by
        // asking for native XDP there.
        xdp_transmit: device.role == Role::Uplink && xdp == XdpAttach::Native,
    }
}

/// The same without XDP: for a driver that turns out not to have it.
#[must_use]
pub fn without_xdp(target: Target) -> Target {
    Target {
        role: dataplane::Role::Uplink(XdpAttach::Off),
        xdp_transmit: false,
        ..target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentFlags;
    use crate::node::{Address, Link, LinkKind, NoXdp, Scope, SourceAddresses};

    fn config() -> Config {
        Config::from_layers(None, &AgentFlags::default(), 4 << 30, None).unwrap()
    }

    fn network() -> NodeState {
        let address = |net: &str| Address {
            net: net.parse().unwrap(),
            scope: Scope::Global,
            secondary: false,
            deprecated: false,
            tentative: false,
            duplicate: false,
        };
        let link = |name: &str, kind, addresses| Link {
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            kind,
            up: true,
            master: None,
            lower: None,
            lower_elsewhere: true,
            mtu: 1500,
            strips_vlan: None,
            addresses,
        };
        let uplink = link(
            "eth0",
            LinkKind::Physical,
            vec![address("192.0.2.1/24"), address("192.0.2.9/24")],
        );
        let pod = link("veth1", LinkKind::Veth, Vec::new());
        NodeState {
            links: [(2, uplink), (7, pod)].into(),
            default_routes: Vec::new(),
        }
    }

    fn node(internal: &str) -> Node {
        Node {
            name: "a".to_owned(),
            zone: Some("zone-1".to_owned()),
            internal_ips: vec![internal.parse().unwrap()],
            labels: BTreeMap::new(),
            leaving: false,
        }
    }

    /// S10, S30.
    #[test]
    fn the_node_object_says_zone_and_primary_address() {
        let host = Host::new(&network(), &config(), "a", Some(&node("192.0.2.9")));
        assert_eq!(host.node.zone.as_deref(), Some("zone-1"));
        let serving: Vec<String> = host
            .addresses
            .iter()
            .filter(|(_, serves)| **serves)
            .map(|(ip, _)| ip.to_string())
            .collect();
        assert_eq!(serving, ["192.0.2.9"]);
        let flags: Vec<u32> = host
            .address_entries()
            .into_iter()
            .map(|(_, flags)| flags)
            .collect();
        assert_eq!(flags, [0, NODE_PORTS], "192.0.2.1 is the node's without serving");
    }

    /// S30.
    #[test]
    fn without_a_node_object_the_uplinks_addresses_serve() {
        let host = Host::new(&network(), &config(), "a", None);
        assert_eq!(host.node.zone, None);
        assert!(
            host.addresses.values().all(|serves| *serves),
            "{:?}",
            host.addresses
        );
    }

    #[test]
    fn uplinks_and_pods_become_targets_of_their_role() {
        let host = Host::new(&network(), &config(), "a", None);
        let targets: Vec<(String, dataplane::Role)> = host
            .devices
            .values()
            .map(target)
            .map(|target| (target.name, target.role))
            .collect();
        let native = dataplane::Role::Uplink(XdpAttach::Native);
        assert_eq!(
            targets,
            [
                ("eth0".to_owned(), native),
                ("veth1".to_owned(), dataplane::Role::Pod)
            ]
        );
    }

    #[test]
    fn xdp_transmits_where_a_driver_runs_it() {
        let device = |xdp| DeviceChoice {
            ifindex: 2,
            name: "eth0".to_owned(),
            role: Role::Uplink,
            mac: None,
            xdp,
            sources: SourceAddresses::default(),
        };
        for (xdp, expected) in [
            (Xdp::Native { expected: false }, true),
            (Xdp::Generic, false),
            (Xdp::None(NoXdp::Virtual), false),
        ] {
            assert_eq!(target(&device(xdp.clone())).xdp_transmit, expected, "{xdp:?}");
        }
        assert!(!without_xdp(target(&device(Xdp::Native { expected: true }))).xdp_transmit);
    }
}
