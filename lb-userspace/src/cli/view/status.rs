//! `xvip get status`: what is installed and how full it is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::layout::maps;
use lb_common::node_addr::NODE_PORTS;
use serde::Serialize;

use super::devices::{self, DeviceRow};
use super::reasons::{self, ReasonRow};
use crate::cli::output::{self, Column, Format, Row};
use crate::snapshot::{Inventory, Snapshot};

/// Everything at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The path of the pins.
    pub bpffs: String,
    /// Their layout version.
    pub layout: u32,
    /// The agent.
    pub agent: AgentStatus,
    /// The devices and their programs.
    pub devices: Vec<DeviceRow>,
    /// Addresses of this node.
    pub node_addresses: Vec<NodeAddress>,
    /// The maps' fill.
    pub maps: Vec<MapRow>,
    /// The reasons that occurred.
    pub reasons: Vec<ReasonRow>,
}

/// Whether an agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Whether one holds the lock.
    pub running: bool,
    /// Its process, where it is visible.
    pub pid: Option<u32>,
}

/// An address of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddress {
    /// The address.
    pub address: IpAddr,
    /// Whether nodePorts are served at it (S30).
    pub node_ports: bool,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapRow {
    /// Its name.
    pub map: String,
    /// Entries in use.
    pub entries: u64,
    /// Entries it takes.
    pub capacity: u64,
}

/// The status a snapshot and an inventory tell.
#[must_use]
pub fn status(snapshot: &Snapshot, inventory: &Inventory) -> Status {
    let node_addresses = snapshot.node_addrs.iter().map(|(addr, flags)| NodeAddress {
        address: addr.to_ip(),
        node_ports: flags & NODE_PORTS != 0,
    });
    let mut node_addresses: Vec<NodeAddress> = node_addresses.collect();
    node_addresses.sort_by_key(|node_address| node_address.address);
    Status {
        bpffs: inventory.bpffs.clone(),
        layout: inventory.layout,
        agent: AgentStatus {
            running: inventory.agent.is_some(),
            pid: inventory.agent.and_then(|agent| agent.pid),
        },
        devices: devices::rows(snapshot, inventory),
        node_addresses,
        maps: fill(snapshot, inventory),
        reasons: reasons::rows(snapshot),
    }
}

fn fill(snapshot: &Snapshot, inventory: &Inventory) -> Vec<MapRow> {
    let rows = inventory.maps.iter().filter_map(|map| {
        let (entries, per_entry) = entries(snapshot, &map.name)?;
        Some(MapRow {
            map: map.name.clone(),
            entries: entries as u64,
            capacity: u64::from(map.capacity) * per_entry,
        })
    });
    rows.collect()
}

/// Entries in use, and how many of them one entry of the map holds; maps whose fill says nothing are left out.
fn entries(snapshot: &Snapshot, map: &str) -> Option<(usize, u64)> {
    // Both sides of a record may use one range.
    let slots = || {
        let records = snapshot.services.values();
        let ranges = records.flat_map(|record| [record.inside, record.outside]);
        let ranges: BTreeSet<(u32, u32)> = ranges.map(|range| (range.offset, range.len)).collect();
        ranges.into_iter().map(|(_, len)| len as usize).sum::<usize>()
    };
    Some(match map {
        maps::FRONTENDS => (snapshot.frontends.len(), 1),
        maps::SERVICES => (snapshot.services.len(), 1),
        maps::SLOTS => (slots(), 1),
        maps::BACKENDS => (
            snapshot
                .backends
                .values()
                .filter(|backend| backend.service != 0)
                .count(),
            1,
        ),
        maps::FLOWS4 => (snapshot.flows4.len(), lb_common::flow::WAYS as u64),
        maps::FLOWS6 => (snapshot.flows6.len(), lb_common::flow::WAYS as u64),
        maps::AFFINITY => (snapshot.affinity.len(), 1),
        maps::SOURCE_RANGES => (snapshot.source_ranges.len(), 1),
        maps::NODE_ADDRS => (snapshot.node_addrs.len(), 1),
        maps::NAMES => (snapshot.names.len(), 1),
        _ => return None,
    })
}

/// A status in one format.
pub fn render(status: &Status, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Json => output::json(status),
        Format::Yaml => output::yaml(status),
        Format::Table | Format::Wide => text(status, format),
    }
}

fn text(status: &Status, format: Format) -> anyhow::Result<String> {
    let agent = match (status.agent.running, status.agent.pid) {
        (true, Some(pid)) => format!("running, process {pid}"),
        (true, None) => "running".to_owned(),
        (false, _) => "not running (the datapath goes on without it)".to_owned(),
    };
    let mut addresses: Vec<String> = Vec::new();
    for node_address in &status.node_addresses {
        let suffix = if node_address.node_ports {
            " (nodePorts)"
        } else {
            ""
        };
        addresses.push(format!("{}{suffix}", node_address.address));
    }
    let addresses = if addresses.is_empty() {
        "none known".to_owned()
    } else {
        addresses.join(", ")
    };
    Ok(format!(
        "Agent:           {agent}\nDatapath:        {}, layout {}\nNode addresses:  {addresses}\n\n{}\n{}\n{}",
        status.bpffs,
        status.layout,
        output::render(&status.devices, format, "No device is attached.")?,
        output::render(&status.maps, format, "No map is pinned.")?,
        output::render(&status.reasons, format, "No packet was counted.")?,
    ))
}

impl Row for MapRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("MAP"),
        Column::new("ENTRIES"),
        Column::new("CAPACITY"),
        Column::new("FILL"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        let percent = (self.entries * 100).checked_div(self.capacity);
        vec![vec![
            self.map.clone(),
            self.entries.to_string(),
            self.capacity.to_string(),
            percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent}%")),
        ]]
    }
}
