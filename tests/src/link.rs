//! Network devices of a namespace: making them, and giving them addresses, routes and neighbours.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State,
};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::ethtool::{self, Feature};
use crate::netns::NsHandle;
use crate::poll;

/// How long a device may take to be running after both its ends are up.
const CARRIER: Duration = Duration::from_secs(5);

/// A device in a namespace.
#[derive(Debug, Clone)]
pub struct Link {
    ns: NsHandle,
    name: String,
    index: u32,
    mac: [u8; 6],
}

impl NsHandle {
    /// The device called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        let message = self.query(name)?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        let mac = mac.unwrap_or_default();
        Ok(Link {
            ns: self.clone(),
            name: name.to_owned(),
            index: message.header.index,
            mac,
        })
    }

    /// Makes a bridge, without spanning tree and multicast snooping, up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_bridge(&self, name: &str) -> Result<Link> {
        // An address of its own: a bridge without one takes the lowest of its ports' and changes it when ports come.
        let mac = [0x02, 0x78, 0x76, 0x6c, rand::random(), rand::random()];
        let message = LinkBridge::new(name)
            .address(mac.to_vec())
            .append_info_data(InfoBridge::MulticastSnooping(false))
            .append_info_data(InfoBridge::ForwardDelay(0))
            .build();
        let netlink = self.netlink().clone();
        self.block_on(async move { netlink.link().add(message).execute().await })
            .with_context(|| format!("adding bridge {name} in {}", self.name()))?;
        self.link(name)
    }

    /// Adds or replaces a route: through `via` (taken to be on the link), or directly to the link.
    ///
    /// # Errors
    /// When families differ or the kernel refuses.
    pub fn add_route(&self, to: IpNet, via: Option<IpAddr>, link: &Link) -> Result<()> {
        let mut route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(to.network(), to.prefix_len())?
            .output_interface(link.index);
        route = match via {
            Some(gateway) => route.gateway(gateway)?.onlink(),
            None if to.addr().is_ipv4() => route.scope(RouteScope::Link),
            None => route,
        };
        let netlink = self.netlink().clone();
        self.block_on(async move { netlink.route().add(route.build()).replace().execute().await })
            .with_context(|| {
                format!(
                    "adding route {to} via {via:?} dev {} in {}",
                    link.name,
                    self.name()
                )
            })
    }

    fn query(&self, name: &str) -> Result<LinkMessage> {
        let netlink = self.netlink().clone();
        let wanted = name.to_owned();
        self.block_on(async move { netlink.link().get().match_name(wanted).execute().try_next().await })
            .map_err(anyhow::Error::from)
            .and_then(|found| found.ok_or_else(|| anyhow!("no such device")))
            .with_context(|| format!("device {name} in {}", self.name()))
    }
}

/// Makes a veth pair with its ends in two namespaces (or in one), both down.
///
/// # Errors
/// When the kernel refuses, for example because a name is taken.
pub fn veth(a: (&NsHandle, &str), b: (&NsHandle, &str)) -> Result<(Link, Link)> {
    let peer = LinkUnspec::new_with_name(b.1)
        .setns_by_fd(b.0.file().as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(a.1)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let netlink = a.0.netlink().clone();
    a.0.block_on(async move { netlink.link().add(message).execute().await })
        .with_context(|| {
            format!(
                "adding veth {} in {} to {} in {}",
                a.1,
                a.0.name(),
                b.1,
                b.0.name()
            )
        })?;
    Ok((a.0.link(a.1)?, b.0.link(b.1)?))
}

impl Link {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index in its namespace.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The namespace it is in.
    #[must_use]
    pub fn ns(&self) -> &NsHandle {
        &self.ns
    }

    /// Sets it up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn up(&self) -> Result<()> {
        self.change(|link| link.up())
    }

    /// Sets it down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn down(&self) -> Result<()> {
        self.change(|link| link.down())
    }

    /// Sets its MTU.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.change(|link| link.mtu(mtu))
    }

    /// Gives it another MAC address. Nobody is told, and [`Link::mac`] goes on giving the first one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mac(&self, mac: [u8; 6]) -> Result<()> {
        self.change(|link| link.address(mac.to_vec()))
    }

    /// Makes it a port of a bridge of its namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_to(&self, bridge: &Link) -> Result<()> {
        self.change(|link| link.controller(bridge.index))
    }

    /// Gives it an address, usable at once (no duplicate address detection).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_address(&self, address: IpNet) -> Result<()> {
        let netlink = self.ns.netlink().clone();
        let mut request = netlink
            .address()
            .add(self.index, address.addr(), address.prefix_len())
            .replace();
        if address.addr().is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.ns
            .block_on(async move { request.execute().await })
            .with_context(|| format!("adding address {address} to {self}"))
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// When it does not have it.
    pub fn remove_address(&self, address: IpAddr) -> Result<()> {
        let netlink = self.ns.netlink().clone();
        let index = self.index;
        self.ns
            .block_on(async move {
                let found = netlink
                    .address()
                    .get()
                    .set_link_index_filter(index)
                    .set_address_filter(address)
                    .execute();
                let message = found
                    .try_collect::<Vec<_>>()
                    .await?
                    .pop()
                    .ok_or_else(|| anyhow!("not there"))?;
                anyhow::Ok(netlink.address().del(message).execute().await?)
            })
            .with_context(|| format!("removing address {address} from {self}"))
    }

    /// Adds or replaces a permanent neighbour.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_neighbour(&self, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let netlink = self.ns.netlink().clone();
        let request = netlink
            .neighbours()
            .add(self.index, address)
            .link_layer_address(&mac)
            .replace();
        self.ns
            .block_on(async move { request.execute().await })
            .with_context(|| format!("adding neighbour {address} to {self}"))
    }

    /// Switches a feature of the device.
    ///
    /// # Errors
    /// When it cannot change it.
    pub fn set_feature(&self, feature: Feature, on: bool) -> Result<()> {
        let name = self.name.clone();
        self.ns
            .run(move || ethtool::set(&name, feature, on))
            .with_context(|| format!("in {}", self.ns.name()))
    }

    /// Waits until the device has a carrier and the kernel has taken notice of it.
    ///
    /// # Errors
    /// When that takes longer than a few seconds.
    pub fn wait_running(&self) -> Result<()> {
        poll::until(&format!("{self} running"), CARRIER, || {
            let message = self.ns.query(&self.name).map_err(|error| format!("{error:#}"))?;
            let state = message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::OperState(state) => Some(*state),
                _ => None,
            });
            if state == Some(State::Up) {
                Ok(())
            } else {
                Err(format!("state {state:?}"))
            }
        })
    }

    /// Deletes it, and a veth's peer with it.
    ///
    /// # Errors
    /// When it or its namespace is gone already.
    pub fn delete(&self) -> Result<()> {
        let netlink = self.ns.netlink().clone();
        let index = self.index;
        self.ns
            .try_block_on(async move { netlink.link().del(index).execute().await })
            .ok_or_else(|| anyhow!("the namespace is gone"))
            .and_then(|done| Ok(done?))
            .with_context(|| format!("deleting {self}"))
    }

    fn change(
        &self,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let netlink = self.ns.netlink().clone();
        let message = change(LinkUnspec::new_with_index(self.index)).build();
        self.ns
            .block_on(async move { netlink.link().set(message).execute().await })
            .with_context(|| format!("changing {self}"))
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "device {} in {}", self.name, self.ns.name())
    }
}
