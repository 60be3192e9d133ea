//! `xvip get devices`: the network devices the datapath works on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::addr::{Addr4, Addr6};
use lb_common::device::{self, Device};
use serde::Serialize;

use super::words;
use crate::cli::output::{Column, Row};
use crate::snapshot::{Inventory, Snapshot};

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRow {
    /// Its name.
    pub device: String,
    /// Its number.
    pub ifindex: u32,
    /// `uplink`, `pod` or `loopback`.
    pub kind: &'static str,
    /// Its hardware address.
    pub mac: String,
    /// Whether XDP may transmit out of it.
    pub xdp_transmit: bool,
    /// The addresses that rewritten packets leave with (S19).
    pub source_addresses: Vec<IpAddr>,
    /// The programs on it: `xdp (native)`, `tc ingress (tcx)`.
    pub programs: Vec<String>,
}

/// The devices by number, with the programs an inventory knows on them.
#[must_use]
pub fn rows(snapshot: &Snapshot, inventory: &Inventory) -> Vec<DeviceRow> {
    let devices = snapshot
        .devices
        .iter()
        .filter(|(_, device)| device.kind() != device::NONE);
    devices
        .map(|(&ifindex, device)| row(snapshot, inventory, ifindex, device))
        .collect()
}

fn row(snapshot: &Snapshot, inventory: &Inventory, ifindex: u32, device: &Device) -> DeviceRow {
    let programs = inventory.links.iter().filter(|link| link.ifindex == ifindex);
    DeviceRow {
        device: snapshot.device_name(ifindex),
        ifindex,
        kind: kind(device.kind()),
        mac: words::mac(device.mac()),
        xdp_transmit: device.flags() & device::XDP_TX != 0,
        source_addresses: source_addresses(device),
        programs: programs
            .map(|link| match link.mode.as_str() {
                "" => link.hook.clone(),
                mode => format!("{} ({mode})", link.hook),
            })
            .collect(),
    }
}

pub(super) fn kind(kind: u8) -> &'static str {
    match kind {
        device::NONE => "none",
        device::UPLINK => "uplink",
        device::POD => "pod",
        device::LOOPBACK => "loopback",
        _ => "unknown",
    }
}

pub(super) fn source_addresses(device: &Device) -> Vec<IpAddr> {
    let v4 = (device.addr4 != Addr4::default()).then(|| IpAddr::V4(Ipv4Addr::from(device.addr4)));
    let addr6 = Addr6(device.addr6);
    let v6 = (addr6 != Addr6::default()).then(|| IpAddr::V6(Ipv6Addr::from(addr6)));
    v4.into_iter().chain(v6).collect()
}

impl Row for DeviceRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("DEVICE"),
        Column::new("KIND"),
        Column::new("PROGRAMS"),
        Column::new("SOURCE ADDRESSES"),
        Column::wide("IFINDEX"),
        Column::wide("MAC"),
        Column::wide("XDP TRANSMIT"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        let list = |items: Vec<String>| {
            if items.is_empty() {
                "-".to_owned()
            } else {
                items.join(", ")
            }
        };
        vec![vec![
            self.device.clone(),
            self.kind.to_owned(),
            list(self.programs.clone()),
            list(self.source_addresses.iter().map(ToString::to_string).collect()),
            self.ifindex.to_string(),
            self.mac.clone(),
            if self.xdp_transmit { "yes" } else { "no" }.to_owned(),
        ]]
    }
}
