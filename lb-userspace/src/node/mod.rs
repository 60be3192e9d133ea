//! The host the agent runs on: its devices, its addresses, its kernel settings.
//!
//! Owns: following links, addresses and default routes through rtnetlink ([`watch()`]), and the pure functions that say
//! what they mean for a load balancer: which devices get programs ([`select_devices`]), which addresses are the node's
//! and serve nodePorts ([`node_addresses()`]).
//!
//! Must not know: Services, maps, how programs are attached.

mod decode;
mod devices;
mod node_addresses;
mod source_address;
mod state;
mod sysctl;
mod vlan_stripping;
mod watch;
mod xdp;

#[cfg(test)]
mod tests;

pub use devices::{DeviceChoice, DeviceSettings, Role, Selection, select_devices};
pub use node_addresses::node_addresses;
pub use source_address::SourceAddresses;
pub use state::{Address, DefaultRoute, Link, LinkKind, NodeState, Scope};
pub use sysctl::{accept_local, refuse_local, release_ports, reserve_ports, sysctl_warnings};
pub use watch::watch;
pub use xdp::{NoXdp, Xdp};
