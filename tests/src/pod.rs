//! Pods: namespaces attached to their node the way the common network plugins do it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;

use crate::host::{default_routes, quiet};
use crate::link::{Link, veth};
use crate::netns::{Netns, NsHandle};

/// How a node's pods are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNet {
    /// A host route to each pod's own device, as Calico and ptp-style plugins do it.
    Routed,
    /// A bridge `cni0` with the pods' devices as ports, as flannel and kubenet do it.
    Bridge,
}

/// The gateway of routed pods: nobody has the IPv4 one (the node answers for it), every host end has the IPv6 one.
const GATEWAY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];

/// A pod; gone on drop, with its device on the node.
#[derive(Debug)]
pub struct Pod {
    ns: Netns,
    name: String,
    node: u8,
    addresses: [IpAddr; 2],
    eth0: Link,
    host_end: Link,
}

impl Pod {
    pub(crate) fn routed(name: &str, addresses: [IpAddr; 2], node: u8, node_ns: &NsHandle) -> Result<Self> {
        let pod = Self::attached(name, addresses, node, node_ns, "lxc")?;
        let host = pod.host_end.name();
        node_ns.sysctl(&format!("net/ipv4/conf/{host}/proxy_arp"), "1")?;
        // By default the node would think about each proxied answer for up to 0.8 s.
        node_ns.sysctl(&format!("net/ipv4/neigh/{host}/proxy_delay"), "0")?;
        pod.host_end.add_address(IpNet::new(GATEWAY[1], 64)?)?;
        for address in addresses {
            pod.eth0.add_address(address.into())?;
            node_ns.add_route(address.into(), None, &pod.host_end)?;
        }
        pod.finish(GATEWAY)
    }

    pub(crate) fn bridged(
        name: &str,
        addresses: [IpAddr; 2],
        gateways: [IpAddr; 2],
        node: u8,
        bridge: &Link,
    ) -> Result<Self> {
        let pod = Self::attached(name, addresses, node, bridge.ns(), "veth")?;
        pod.host_end.attach_to(bridge)?;
        for (address, length) in addresses.into_iter().zip([24, 64]) {
            pod.eth0.add_address(IpNet::new(address, length)?)?;
        }
        let pod = pod.finish(gateways)?;
        // The bridge has no carrier before its first port.
        bridge.wait_running()?;
        Ok(pod)
    }

    /// A namespace with an up `eth0`, whose other end is on the node.
    fn attached(
        name: &str,
        addresses: [IpAddr; 2],
        node: u8,
        node_ns: &NsHandle,
        kind: &str,
    ) -> Result<Self> {
        let ns = Netns::new(name)?;
        quiet(&ns)?;
        let host_name = format!("{kind}{:08x}", rand::random::<u32>());
        let (host_end, eth0) = veth((node_ns, &host_name), (&ns, "eth0"))?;
        host_end.up()?;
        eth0.up()?;
        Ok(Self {
            ns,
            name: name.to_owned(),
            node,
            addresses,
            eth0,
            host_end,
        })
    }

    fn finish(self, gateways: [IpAddr; 2]) -> Result<Self> {
        for (default, gateway) in default_routes(gateways) {
            self.ns.add_route(default, Some(gateway), &self.eth0)?;
        }
        self.eth0.wait_running()?;
        self.host_end.wait_running()?;
        Ok(self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NsHandle {
        &self.ns
    }

    /// The index of its node.
    #[must_use]
    pub fn node(&self) -> usize {
        self.node.into()
    }

    /// Its address of a family.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        self.addresses[usize::from(v6)]
    }

    /// Its addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.addresses
    }

    /// Its own device.
    #[must_use]
    pub fn eth0(&self) -> &Link {
        &self.eth0
    }

    /// Its device on the node.
    #[must_use]
    pub fn host_end(&self) -> &Link {
        &self.host_end
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // The kernel removes devices of a dead namespace when it gets to it; routes to this pod should not outlive it.
        // An error says that node or device are gone already.
        let _ = self.host_end.delete();
    }
}
