//! Whether XDP goes on an uplink, and in which mode.
//!
//! XDP must see whole frames: with the VLAN tag they came with and with finished checksums. Where that is not so, tc does
//! the work alone, which it can because the kernel's packet carries both beside the bytes.

use std::fmt;

use super::state::{LinkKind, NodeState};
use crate::config::XdpMode;

/// How XDP is to be attached to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// In the driver. `expected` = asked for by the user: a driver that cannot (EOPNOTSUPP) is then worth a warning;
    /// otherwise tc takes over without a word.
    Native {
        /// Whether the user counts on it.
        expected: bool,
    },
    /// By the kernel's emulation.
    Generic,
    /// Not at all.
    None(NoXdp),
}

/// Why XDP is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoXdp {
    /// `xdpMode: off`.
    Off,
    /// A pod's device: tc serves it.
    PodDevice,
    /// The loopback device: only what leaves by it is looked at.
    Loopback,
    /// A virtual device, whose packets may come with unfinished checksums.
    Virtual,
    /// It has VLANs, and their tags are (or may be) taken out before XDP sees the frame.
    VlanStripping,
    /// It carries bare IP packets, which have no Ethernet header to parse.
    NoEthernet,
}

impl fmt::Display for NoXdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "xdpMode is off",
            Self::PodDevice => "a pod's device",
            Self::Loopback => "the loopback device",
            Self::Virtual => "a virtual device: its packets may come with unfinished checksums",
            Self::VlanStripping => "it has VLANs and takes the tags out of received frames",
            Self::NoEthernet => "its packets have no Ethernet header",
        })
    }
}

/// The mode for an uplink, and what the user should know about it.
pub(super) fn on_uplink(state: &NodeState, ifindex: u32, mode: XdpMode) -> (Xdp, Option<String>) {
    let Some(link) = state.links.get(&ifindex) else {
        return (Xdp::None(NoXdp::Virtual), None);
    };
    if mode == XdpMode::Off {
        return (Xdp::None(NoXdp::Off), None);
    }
    if link.mac.is_none() {
        return (Xdp::None(NoXdp::NoEthernet), None);
    }
    let whole = frames_come_whole(state, ifindex);
    if mode == XdpMode::Auto && !whole {
        return (Xdp::None(NoXdp::Virtual), None);
    }
    if state.has_vlans(ifindex) && link.strips_vlan != Some(false) {
        let warning = format!(
            "no XDP on {}: it has VLAN devices and takes their tags out of received frames; to use XDP, switch that off \
             (ethtool -K {} rxvlan off)",
            link.name, link.name
        );
        return (Xdp::None(NoXdp::VlanStripping), Some(warning));
    }
    let warning = (!whole).then(|| {
        format!(
            "XDP on {}, a virtual device, as xdpMode: {mode} asks: packets that arrive there with an unfinished \
             checksum (from sockets on this machine) are damaged",
            link.name
        )
    });
    match mode {
        XdpMode::Auto => (Xdp::Native { expected: false }, warning),
        XdpMode::Native => (Xdp::Native { expected: true }, warning),
        XdpMode::Generic => (Xdp::Generic, warning),
        XdpMode::Off => (Xdp::None(NoXdp::Off), None),
    }
}

/// A device with a driver of its own, or a bond of nothing else.
fn frames_come_whole(state: &NodeState, ifindex: u32) -> bool {
    match state.links.get(&ifindex).map(|link| &link.kind) {
        Some(LinkKind::Bond) => {
            let mut ports = state.ports(ifindex).peekable();
            ports.peek().is_some() && ports.all(|port| port.kind.has_a_driver())
        }
        Some(kind) => kind.has_a_driver(),
        None => false,
    }
}
