//! Which devices the programs are attached to, and as what. One pure function.

use std::net::IpAddr;

use lb_common::device::MAX_DEVICES;

use super::source_address::{self, SourceAddresses};
use super::state::{Link, LinkKind, NodeState, Scope};
use super::xdp::{self, NoXdp, Xdp};
use crate::config::{DevicePattern, XdpMode};

/// What the configuration says about devices.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSettings<'a> {
    /// Names of uplinks; empty = found.
    pub devices: &'a [DevicePattern],
    /// Names of pod devices; empty = found.
    pub pod_devices: &'a [DevicePattern],
    /// XDP on uplinks.
    pub xdp_mode: XdpMode,
}

/// What a device is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads outside.
    Uplink,
    /// The host's end of a pod's device.
    Pod,
    /// What the host sends itself passes it.
    Loopback,
}

/// A device to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChoice {
    /// Its ifindex, below [`MAX_DEVICES`].
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// What it is to us.
    pub role: Role,
    /// Its hardware address; `None` on devices that carry bare IP packets.
    pub mac: Option<[u8; 6]>,
    /// XDP on it. tc is attached in any case, on the loopback device at egress alone.
    pub xdp: Xdp,
    /// What packets leaving by it get as rewritten source (S19).
    pub sources: SourceAddresses,
}

/// The devices to attach to, by ifindex, and what the user should know about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The devices.
    pub devices: Vec<DeviceChoice>,
    /// Warnings, one sentence each; the same ones as long as nothing changes.
    pub warnings: Vec<String>,
}

/// Chooses the devices.
///
/// A device that matches a pattern is what the pattern says, `devices` before `podDevices`; with patterns for a role
/// nothing else gets it. Found by itself are
/// - uplinks: devices with a default route or an internal address of the Node; physical devices, bonds, VLANs and
///   MACVLANs with a global address; tunnels with one, because replies of remote backends may come out of them; veths
///   with a global address whose prefix has room for neighbours (as in a network namespace that is a node). A veth with
///   a host prefix alone is what CNI's ptp plugin puts on the host's end of a pod's device;
/// - pod devices: veths (and netkits) that are no uplink and have their other end in another network namespace, ports of
///   bridges included;
/// - the loopback device, whatever the patterns say: the host calls nodePorts of its own there.
///
/// `internal` are the Node object's internal addresses, as far as known.
#[must_use]
pub fn select_devices(state: &NodeState, settings: &DeviceSettings<'_>, internal: &[IpAddr]) -> Selection {
    let mut selection = Selection::default();
    for (&ifindex, link) in &state.links {
        let Some(role) = role(state, ifindex, link, settings, internal) else {
            continue;
        };
        if usize::try_from(ifindex).is_ok_and(|index| index >= MAX_DEVICES) {
            selection.warnings.push(format!(
                "{} is not served: its interface index {ifindex} is beyond the {MAX_DEVICES} that fit",
                link.name
            ));
            continue;
        }
        let (xdp, warning) = match role {
            Role::Uplink => xdp::on_uplink(state, ifindex, settings.xdp_mode),
            Role::Pod => (Xdp::None(NoXdp::PodDevice), None),
            Role::Loopback => (Xdp::None(NoXdp::Loopback), None),
        };
        selection.warnings.extend(warning);
        selection.devices.push(DeviceChoice {
            ifindex,
            name: link.name.clone(),
            role,
            mac: link.mac,
            xdp,
            sources: match role {
                // Nothing that is rewritten leaves by it.
                Role::Loopback => SourceAddresses::default(),
                Role::Uplink | Role::Pod => source_address::of_device(state, ifindex),
            },
        });
    }
    let no_uplink = !selection.devices.iter().any(|device| device.role == Role::Uplink);
    if no_uplink && !settings.devices.is_empty() {
        let patterns: Vec<String> = settings.devices.iter().map(ToString::to_string).collect();
        selection
            .warnings
            .push(format!("no device matches devices: {}", patterns.join(",")));
    }
    selection
}

fn role(
    state: &NodeState,
    ifindex: u32,
    link: &Link,
    settings: &DeviceSettings<'_>,
    internal: &[IpAddr],
) -> Option<Role> {
    let named = |patterns: &[DevicePattern]| patterns.iter().any(|pattern| pattern.matches(&link.name));
    if link.kind == LinkKind::Loopback {
        Some(Role::Loopback)
    } else if named(settings.devices) {
        Some(Role::Uplink)
    } else if named(settings.pod_devices) {
        Some(Role::Pod)
    } else if settings.devices.is_empty() && leads_outside(state, ifindex, link, internal) {
        Some(Role::Uplink)
    } else if settings.pod_devices.is_empty() && leads_to_a_pod(link) {
        Some(Role::Pod)
    } else {
        None
    }
}

fn leads_outside(state: &NodeState, ifindex: u32, link: &Link, internal: &[IpAddr]) -> bool {
    let of_the_node = || {
        link.addresses
            .iter()
            .any(|address| internal.contains(&address.ip()))
    };
    let global = || {
        link.addresses
            .iter()
            .filter(|address| address.scope == Scope::Global)
    };
    match &link.kind {
        // Addresses without a wire behind them.
        LinkKind::Loopback | LinkKind::Dummy => false,
        LinkKind::Physical | LinkKind::Bond | LinkKind::Vlan | LinkKind::MacVlan | LinkKind::Tunnel => {
            state.has_default_route(ifindex) || global().next().is_some()
        }
        LinkKind::Veth => {
            // An internal address alone does not do: a ptp gateway may be numbered like the node.
            state.has_default_route(ifindex) || global().any(|address| !address.is_host_prefix())
        }
        // A bridge with an address is as a rule the pods' gateway.
        LinkKind::Bridge | LinkKind::Netkit | LinkKind::Other(_) => {
            state.has_default_route(ifindex) || of_the_node()
        }
    }
}

fn leads_to_a_pod(link: &Link) -> bool {
    matches!(link.kind, LinkKind::Veth | LinkKind::Netkit) && link.lower_elsewhere
}
