//! What is known of the host's network: links, addresses, default routes.
//!
//! Owns: the types and questions that need nothing but them. Must not know: netlink, the configuration, what a device is
//! used for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// The host's network at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// Links by ifindex.
    pub links: BTreeMap<u32, Link>,
    /// Default routes, the preferred (lowest metric) first.
    pub default_routes: Vec<DefaultRoute>,
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its hardware address; `None` on devices that carry bare IP packets.
    pub mac: Option<[u8; 6]>,
    /// What it is.
    pub kind: LinkKind,
    /// Whether it is switched on.
    pub up: bool,
    /// The bridge, bond or VRF it is a port of, by ifindex.
    pub master: Option<u32>,
    /// The device under it (a VLAN's parent) or its other end, by ifindex in that device's network namespace.
    pub lower: Option<u32>,
    /// Whether [`Link::lower`] is in another network namespace.
    pub lower_elsewhere: bool,
    /// Largest packet.
    pub mtu: u32,
    /// Whether the driver takes VLAN tags out of received frames before XDP sees them. Looked up only for devices with
    /// VLANs on them; `None` = not looked up, or the driver does not say.
    pub strips_vlan: Option<bool>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<Address>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// `lo`.
    Loopback,
    /// A driver of its own: hardware, or a hypervisor's device such as virtio.
    Physical,
    /// One end of a virtual cable.
    Veth,
    /// A pod's device that hands packets over like a veth, without queues.
    Netkit,
    /// A bridge.
    Bridge,
    /// Several devices as one.
    Bond,
    /// An 802.1Q device on top of another.
    Vlan,
    /// A device with an address of its own on top of another.
    MacVlan,
    /// One that encapsulates: VXLAN, Geneve, IPIP, GRE, WireGuard and the like.
    Tunnel,
    /// A device that goes nowhere and only carries addresses.
    Dummy,
    /// Any other virtual device, by the kernel's word for it.
    Other(String),
}

impl LinkKind {
    /// Whether every frame it delivers is finished, checksums included. Packets of a socket on the same machine arrive
    /// over virtual devices with a checksum still to be filled in, which XDP neither sees nor can finish.
    #[must_use]
    pub fn has_a_driver(&self) -> bool {
        *self == Self::Physical
    }
}

/// An address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address with the length of its on-link prefix.
    pub net: IpNet,
    /// How far it is valid.
    pub scope: Scope,
    /// IPv4: not the first of its subnet; the kernel does not choose it by itself. IPv6: temporary.
    pub secondary: bool,
    /// No longer for new connections.
    pub deprecated: bool,
    /// IPv6: not known to be unique yet.
    pub tentative: bool,
    /// IPv6: somebody else has it; the kernel does not answer to it.
    pub duplicate: bool,
}

/// How far an address is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// Inside the host.
    Host,
}

/// A route for everything that has no better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The device, by ifindex.
    pub device: u32,
    /// Its family: IPv6, not IPv4.
    pub ipv6: bool,
    /// The source address it asks for.
    pub preferred_source: Option<IpAddr>,
    /// Its metric.
    pub metric: u32,
}

impl Address {
    /// The address alone.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.net.addr()
    }

    /// Whether its prefix covers nothing but itself: no neighbour is on the link because of it.
    #[must_use]
    pub fn is_host_prefix(&self) -> bool {
        self.net.prefix_len() == self.net.max_prefix_len()
    }

    /// Whether the kernel would choose it as a source for the outside without being asked.
    #[must_use]
    pub fn is_source(&self) -> bool {
        self.scope == Scope::Global
            && !self.secondary
            && !self.deprecated
            && !self.tentative
            && !self.duplicate
    }

    /// Whether its prefix is the whole address.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.net.prefix_len() == self.net.max_prefix_len()
    }
}

impl Link {
    /// The device a VLAN sits on, if that is in this network namespace.
    #[must_use]
    pub fn vlan_parent(&self) -> Option<u32> {
        self.lower
            .filter(|_| self.kind == LinkKind::Vlan && !self.lower_elsewhere)
    }
}

impl NodeState {
    /// Whether VLAN devices sit on top of this one.
    #[must_use]
    pub fn has_vlans(&self, ifindex: u32) -> bool {
        self.links
            .values()
            .any(|link| link.vlan_parent() == Some(ifindex))
    }

    /// The ports of a bridge or bond.
    pub fn ports(&self, ifindex: u32) -> impl Iterator<Item = &Link> {
        self.links
            .values()
            .filter(move |link| link.master == Some(ifindex))
    }

    /// Whether a default route of either family leaves by this device.
    #[must_use]
    pub fn has_default_route(&self, ifindex: u32) -> bool {
        self.default_routes.iter().any(|route| route.device == ifindex)
    }
}
