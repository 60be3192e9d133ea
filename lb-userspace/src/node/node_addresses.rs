//! The addresses of this node, and at which of them nodePorts are served (S30).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::devices::{DeviceChoice, Role};
use super::state::{NodeState, Scope};
use crate::config::NodePortAddresses;
use crate::model::IpFamily;

/// kube-proxy in IPVS mode keeps the Services' addresses on this device; they are no node's.
pub(super) fn is_ipvs(name: &str) -> bool {
    name == "kube-ipvs0"
}

/// Every address of the host, and whether nodePorts are served there.
///
/// `internal` are the Node object's internal addresses in its order, of which the first of each family is the primary
/// one; without a Node object (`None`) the global addresses of the uplinks among `devices` take their place. Loopback
/// addresses and IPv6 link-local ones are the host's, but serve nodePorts never and only where a range names them,
/// respectively.
#[must_use]
pub fn node_addresses(
    state: &NodeState,
    wanted: &NodePortAddresses,
    internal: Option<&[IpAddr]>,
    devices: &[DeviceChoice],
) -> BTreeMap<IpAddr, bool> {
    let mut addresses = BTreeMap::new();
    for (ifindex, link) in &state.links {
        if is_ipvs(&link.name) {
            continue;
        }
        let uplink = devices
            .iter()
            .any(|device| device.ifindex == *ifindex && device.role == Role::Uplink);
        for address in link.addresses.iter().filter(|address| !address.duplicate) {
            let ip = address.ip();
            let serves = !ip.is_loopback()
                && match wanted {
                    NodePortAddresses::Primary => match internal {
                        Some(internal) => primary(internal, IpFamily::of(ip)) == Some(ip),
                        None => uplink && address.scope == Scope::Global,
                    },
                    NodePortAddresses::Cidrs(ranges) => {
                        let mut own = ranges
                            .iter()
                            .filter(|net| IpFamily::of_net(**net) == IpFamily::of(ip))
                            .peekable();
                        match own.peek() {
                            Some(_) => own.any(|net| net.contains(&ip)),
                            None => true,
                        }
                    }
                };
            // An address may be on several devices; one that serves is enough.
            *addresses.entry(ip).or_insert(false) |= serves;
        }
    }
    addresses
}

fn primary(internal: &[IpAddr], family: IpFamily) -> Option<IpAddr> {
    internal
        .iter()
        .copied()
        .find(|address| IpFamily::of(*address) == family)
}
