//! What a topology is made of: the wire, hosts on it, and nodes, which are hosts with pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use crate::ethtool::Feature;
use crate::link::{Link, veth};
use crate::netns::{Netns, NsHandle};
use crate::pod::{Pod, PodNet};

/// The numbers pods can have; 1 is their gateway where there is one.
pub const POD_NUMBERS: RangeInclusive<u8> = 2..=254;

/// What frames on the wire look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// As a NIC delivers them: every sender finishes its checksums, and the wire takes XDP frames.
    WholeFrames,
    /// As veth pairs deliver them by themselves, for example in kind: checksums of local senders are unfinished.
    Unfinished,
}

/// A switch, playing the network between clients and nodes.
#[derive(Debug)]
pub struct Wire {
    ns: Netns,
    bridge: Link,
    number: u8,
}

/// Somebody with an address on every wire.
#[derive(Debug)]
pub struct Host {
    ns: Netns,
    number: u8,
    uplinks: Vec<Link>,
    ports: Vec<Link>,
}

/// A node: a host that forwards, and has pods.
#[derive(Debug)]
pub struct Node {
    host: Host,
    index: u8,
    pod_net: PodNet,
    uplink: Uplink,
    bridge: Option<Link>,
    /// The host parts of its pods' addresses.
    pod_numbers: BTreeSet<u8>,
}

impl Wire {
    pub(crate) fn new(number: u8, uplink: Uplink) -> Result<Self> {
        let ns = Netns::new(&format!("wire{number}"))?;
        quiet(&ns)?;
        let bridge = ns.add_bridge("br0")?;
        for address in wire_addresses(number, 1) {
            bridge.add_address(address)?;
        }
        if uplink == Uplink::WholeFrames {
            bridge.set_feature(Feature::TxChecksum, false)?;
        }
        Ok(Self { ns, bridge, number })
    }

    /// The namespace of the switch. Its ports are called as the namespaces at the other end: `node0`, `client0`.
    #[must_use]
    pub fn ns(&self) -> &NsHandle {
        &self.ns
    }

    /// Its address, the gateway of everybody on it.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        wire_addresses(self.number, 1)[usize::from(v6)].addr()
    }

    /// Connects `ns` by a device `eth<number>` with the addresses of host `host`.
    fn connect(&self, ns: &NsHandle, label: &str, host: u8, uplink: Uplink) -> Result<(Link, Link)> {
        let (port, own) = veth((&self.ns, label), (ns, &format!("eth{}", self.number)))?;
        if uplink == Uplink::WholeFrames {
            own.set_feature(Feature::TxChecksum, false)?;
            port.set_feature(Feature::TxChecksum, false)?;
            // Makes the port take the frames XDP redirects to and transmits from the other end.
            port.pass_xdp()?;
        }
        port.attach_to(&self.bridge)?;
        port.up()?;
        own.up()?;
        for address in wire_addresses(self.number, host) {
            own.add_address(address)?;
        }
        Ok((port, own))
    }
}

impl Host {
    pub(crate) fn new(label: &str, number: u8, wires: &[Wire], uplink: Uplink) -> Result<Self> {
        let ns = Netns::new(label)?;
        quiet(&ns)?;
        let mut host = Self {
            ns,
            number,
            uplinks: Vec::new(),
            ports: Vec::new(),
        };
        for wire in wires {
            let (port, own) = wire.connect(&host.ns, label, number, uplink)?;
            host.ports.push(port);
            host.uplinks.push(own);
        }
        for (default, gateway) in default_routes(wire_addresses(0, 1).map(|address| address.addr())) {
            host.ns.add_route(default, Some(gateway), host.uplink())?;
        }
        Ok(host)
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NsHandle {
        &self.ns
    }

    /// The host part of its addresses.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its address on the first wire.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        wire_addresses(0, self.number)[usize::from(v6)].addr()
    }

    /// Its addresses on a wire, IPv4 first.
    #[must_use]
    pub fn addresses(&self, wire: u8) -> [IpAddr; 2] {
        wire_addresses(wire, self.number).map(|address| address.addr())
    }

    /// Its device on the first wire.
    #[must_use]
    pub fn uplink(&self) -> &Link {
        &self.uplinks[0]
    }

    /// Its devices, one a wire.
    #[must_use]
    pub fn uplinks(&self) -> &[Link] {
        &self.uplinks
    }

    /// The switch's ends of its devices: where to look at what it sends and receives.
    #[must_use]
    pub fn ports(&self) -> &[Link] {
        &self.ports
    }
}

impl Node {
    pub(crate) fn new(index: u8, wires: &[Wire], pod_net: PodNet, uplink: Uplink) -> Result<Self> {
        let host = Host::new(&format!("node{index}"), 10 + index, wires, uplink)?;
        host.ns.sysctl("net/ipv4/ip_forward", "1")?;
        host.ns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let mut node = Self {
            host,
            index,
            pod_net,
            uplink,
            bridge: None,
            pod_numbers: BTreeSet::new(),
        };
        if pod_net == PodNet::Bridge {
            let bridge = node.host.ns.add_bridge("cni0")?;
            for (range, gateway) in node.pod_ranges().into_iter().zip(node.pod_addresses(1)) {
                bridge.add_address(IpNet::new(gateway, range.prefix_len())?)?;
            }
            node.bridge = Some(bridge);
        }
        Ok(node)
    }

    pub(crate) fn add_pod(&mut self, name: &str) -> Result<Pod> {
        let free = POD_NUMBERS
            .into_iter()
            .find(|number| !self.pod_numbers.contains(number));
        let number = free.with_context(|| format!("node {} has no pod address left", self.index))?;
        self.add_pod_at(name, number)
    }

    pub(crate) fn add_pod_at(&mut self, name: &str, number: u8) -> Result<Pod> {
        ensure!(
            POD_NUMBERS.contains(&number) && self.pod_numbers.insert(number),
            "node {}: no pod can have number {number}, or one has it",
            self.index
        );
        let addresses = self.pod_addresses(number);
        let pod = match &self.bridge {
            None => Pod::routed(name, addresses, self.index, &self.host.ns),
            Some(bridge) => Pod::bridged(name, addresses, self.pod_addresses(1), self.index, bridge),
        };
        let pod = pod.with_context(|| format!("making pod {name} on node {}", self.index))?;
        if self.uplink == Uplink::WholeFrames {
            // Makes the pod take frames redirected to its device by XDP.
            pod.eth0().set_feature(Feature::ReceiveOffload, true)?;
        }
        Ok(pod)
    }

    /// What it has in common with clients: namespace, addresses, uplinks.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NsHandle {
        self.host.ns()
    }

    /// Its index, as in `node0`.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Its name, as a Node object would have it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("node{}", self.index)
    }

    /// Its address on the first wire.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        self.host.address(v6)
    }

    /// How its pods are attached.
    #[must_use]
    pub fn pod_net(&self) -> PodNet {
        self.pod_net
    }

    /// Its pod ranges, IPv4 first.
    #[must_use]
    pub fn pod_ranges(&self) -> [IpNet; 2] {
        let [v4, v6] = self.pod_addresses(0);
        [(v4, 24), (v6, 64)].map(|(address, length)| IpNet::new(address, length).expect("a constant length"))
    }

    fn pod_addresses(&self, number: u8) -> [IpAddr; 2] {
        pod_addresses(self.index, number)
    }
}

/// The addresses of a node's pod by its number, IPv4 first.
#[must_use]
pub fn pod_addresses(node: u8, number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 244, node, number).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, number.into()).into(),
    ]
}

/// The default routes of both families, with a gateway each (IPv4 first).
pub(crate) fn default_routes(gateways: [IpAddr; 2]) -> [(IpNet, IpAddr); 2] {
    let [v4, v6] = gateways;
    let any4 = IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0).expect("a constant length");
    let any6 = IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0).expect("a constant length");
    [(any4, v4), (any6, v6)]
}

/// Settings of a namespace before it has devices: addresses are ready at once, replies take any way, ICMP is not rationed.
pub(crate) fn quiet(ns: &NsHandle) -> Result<()> {
    for scope in ["all", "default"] {
        ns.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        ns.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        ns.sysctl(&format!("net/ipv6/conf/{scope}/dad_transmits"), "0")?;
        ns.sysctl(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
        ns.sysctl(&format!("net/ipv6/conf/{scope}/autoconf"), "0")?;
    }
    ns.sysctl("net/ipv4/icmp_ratelimit", "0")?;
    ns.sysctl("net/ipv6/icmp/ratelimit", "0")?;
    ns.sysctl_if_present("net/ipv4/icmp_msgs_per_sec", "1000000")?;
    for family in ["ip", "ip6", "arp"] {
        // Bridged frames must not take a detour through netfilter.
        ns.sysctl_if_present(&format!("net/bridge/bridge-nf-call-{family}tables"), "0")?;
    }
    Ok(())
}

fn wire_addresses(wire: u8, host: u8) -> [IpNet; 2] {
    let (v4, v6) = match wire {
        0 => (Ipv4Addr::new(192, 0, 2, host), 1),
        _ => (Ipv4Addr::new(203, 0, 113, host), 3),
    };
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, v6, 0, 0, 0, host.into());
    [(v4.into(), 24), (v6.into(), 64)]
        .map(|(address, length)| IpNet::new(address, length).expect("a constant length"))
}
