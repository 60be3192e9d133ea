//! `xvip get services`: service ports, their frontends and what they carried.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::Addr;
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::port::Port;
use lb_common::service::{ServiceRecord, flags};
use serde::Serialize;

use super::{Scope, words};
use crate::cli::output::{Column, Row};
use crate::snapshot::Snapshot;

/// A service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// `namespace/name:port`.
    pub service: String,
    /// The key of names and statistics.
    pub id: u32,
    /// Where it is reached.
    pub frontends: Vec<FrontendRow>,
    /// Connections begun.
    pub connections: u64,
    /// Packets rewritten, both directions.
    pub packets: u64,
    /// Their bytes, frame headers included.
    pub bytes: u64,
    /// New connections rejected or dropped.
    pub refused: u64,
}

/// An address of a service port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendRow {
    /// What kind of address it is.
    #[serde(rename = "type")]
    pub kind: FrontendType,
    /// The address; the unspecified one stands for every nodePort address of the node.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: String,
    /// Slots for clients in pods and on the node.
    pub inside_endpoints: u32,
    /// Slots for all other clients.
    pub outside_endpoints: u32,
    /// The idle timeout of session affinity, 0 when it is off.
    pub affinity_seconds: u32,
    /// `reject` or `drop`: what a client inside gets while there is no endpoint for it.
    pub inside_empty: &'static str,
    /// The same for clients outside.
    pub outside_empty: &'static str,
    /// Whose source address is rewritten even to a local endpoint: `pod`, `node`, `outside`.
    pub rewrites: Vec<&'static str>,
    /// The networks whose clients may use it; empty when everybody may.
    pub sources: Vec<String>,
}

/// What the maps tell of an address's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FrontendType {
    /// An address of the cluster's own.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Addresses of the node.
    NodePort,
    /// An external or a load-balancer address.
    External,
}

impl FrontendType {
    fn text(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::External => "External",
        }
    }
}

/// The service ports of a scope, by name.
#[must_use]
pub fn rows(snapshot: &Snapshot, scope: &Scope) -> Vec<ServiceRow> {
    let mut frontends: BTreeMap<u32, Vec<FrontendRow>> = BTreeMap::new();
    // The key of a whole address (S24) is no frontend of its own.
    let is_whole = |(key, _): &&(FrontendKey, FrontendValue)| key.proto == 0;
    let whole: BTreeSet<Addr> = snapshot
        .frontends
        .iter()
        .filter(is_whole)
        .map(|(key, _)| key.addr)
        .collect();
    for (key, value) in snapshot.frontends.iter().filter(|entry| !is_whole(entry)) {
        if let Some(record) = snapshot.services.get(&value.index()) {
            let row = frontend_row(snapshot, key, record, kind_of(key, &whole));
            frontends.entry(record.service).or_default().push(row);
        }
    }
    let mut rows: Vec<ServiceRow> = frontends
        .into_iter()
        .filter(|(id, _)| scope.holds(snapshot, *id))
        .map(|(id, mut frontends)| {
            frontends.sort();
            let stats = snapshot.service_stats.get(&id).copied().unwrap_or_default();
            ServiceRow {
                service: snapshot.service_name(id),
                id,
                frontends,
                connections: stats.connections,
                packets: stats.packets,
                bytes: stats.bytes,
                refused: stats.refused,
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.service, a.id).cmp(&(&b.service, b.id)));
    rows
}

/// What kind of address a key is. Of cluster IPs the whole address is ours (S24); of an address that carries other traffic too
/// it is not. The record does not tell: addresses that are treated alike share one.
fn kind_of(key: &FrontendKey, whole_addresses: &BTreeSet<Addr>) -> FrontendType {
    if key.addr == Addr::ANY4 || key.addr == Addr::ANY6 {
        FrontendType::NodePort
    } else if whole_addresses.contains(&key.addr) {
        FrontendType::ClusterIp
    } else {
        FrontendType::External
    }
}

fn frontend_row(
    snapshot: &Snapshot,
    key: &FrontendKey,
    record: &ServiceRecord,
    kind: FrontendType,
) -> FrontendRow {
    let empty = |drops: u32| {
        if record.flags & drops == 0 {
            "reject"
        } else {
            "drop"
        }
    };
    let rewrites = [
        (flags::REWRITE_POD, "pod"),
        (flags::REWRITE_NODE, "node"),
        (flags::REWRITE_OUTSIDE, "outside"),
    ];
    FrontendRow {
        kind,
        address: key.addr.to_ip(),
        port: Port(key.port).number(),
        protocol: words::protocol(key.proto),
        inside_endpoints: record.inside.len,
        outside_endpoints: record.outside.len,
        affinity_seconds: record.affinity_seconds,
        inside_empty: empty(flags::INSIDE_DROP),
        outside_empty: empty(flags::OUTSIDE_DROP),
        rewrites: rewrites
            .iter()
            .filter(|(bit, _)| record.flags & bit != 0)
            .map(|(_, who)| *who)
            .collect(),
        sources: snapshot
            .sources_of(record.sources)
            .iter()
            .map(|(network, len)| format!("{network}/{len}"))
            .collect(),
    }
}

impl Row for ServiceRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("SERVICE"),
        Column::new("TYPE"),
        Column::new("FRONTEND"),
        Column::new("ENDPOINTS"),
        Column::new("AFFINITY"),
        Column::new("CONNECTIONS"),
        Column::new("PACKETS"),
        Column::new("BYTES"),
        Column::new("REFUSED"),
        Column::wide("ID"),
        Column::wide("REWRITES"),
        Column::wide("WHEN EMPTY"),
        Column::wide("SOURCES"),
    ];

    /// A line a frontend. The counters belong to the service port: they stand in its first line, ditto marks in the others.
    fn lines(&self) -> Vec<Vec<String>> {
        let counters = [
            self.connections.to_string(),
            self.packets.to_string(),
            words::bytes(self.bytes),
            self.refused.to_string(),
        ];
        let ditto = || counters.clone().map(|_| "\"".to_owned());
        let lines = self.frontends.iter().enumerate().map(|(index, frontend)| {
            let mut line = vec![self.service.clone()];
            line.extend(frontend.cells());
            line.extend(if index == 0 { counters.clone() } else { ditto() });
            line.push(self.id.to_string());
            line.extend(frontend.wide_cells());
            line
        });
        lines.collect()
    }
}

impl FrontendRow {
    fn cells(&self) -> [String; 4] {
        let address = words::frontend(self.address, self.port, &self.protocol);
        let endpoints = if self.inside_endpoints == self.outside_endpoints {
            self.inside_endpoints.to_string()
        } else {
            format!("{} in, {} out", self.inside_endpoints, self.outside_endpoints)
        };
        let affinity = match self.affinity_seconds {
            0 => "-".to_owned(),
            seconds => words::seconds(seconds),
        };
        [self.kind.text().to_owned(), address, endpoints, affinity]
    }

    fn wide_cells(&self) -> [String; 3] {
        let rewrites = if self.rewrites.is_empty() {
            "-".to_owned()
        } else {
            self.rewrites.join(",")
        };
        let sources = if self.sources.is_empty() {
            "any".to_owned()
        } else {
            self.sources.join(",")
        };
        let empty = if self.inside_empty == self.outside_empty {
            self.inside_empty.to_owned()
        } else {
            format!("{} in, {} out", self.inside_empty, self.outside_empty)
        };
        [rewrites, empty, sources]
    }
}

#[cfg(test)]
mod tests {
    use lb_common::protocol::TCP;

    use super::*;

    #[test]
    fn a_cluster_ip_is_known_beside_addresses_that_share_its_record() {
        let vip: IpAddr = "10.96.0.10".parse().unwrap();
        let external: IpAddr = "203.0.113.5".parse().unwrap();
        let frontend = |addr: Addr, port: u16, proto, record| {
            let key = FrontendKey::new(addr, Port::new(port), proto);
            (key, FrontendValue::new(&key, record))
        };
        let web = ServiceRecord {
            service: 7,
            ..ServiceRecord::default()
        };
        let snapshot = Snapshot {
            frontends: vec![
                frontend(vip.into(), 80, TCP, 1),
                frontend(vip.into(), 0, 0, 2),
                frontend(external.into(), 80, TCP, 1),
                frontend(Addr::ANY4, 30_080, TCP, 1),
            ],
            services: [(1, web), (2, web)].into(),
            ..Snapshot::default()
        };
        let rows = rows(&snapshot, &Scope::All);
        let kinds: Vec<(FrontendType, IpAddr)> = rows[0]
            .frontends
            .iter()
            .map(|row| (row.kind, row.address))
            .collect();
        let expected = [
            (FrontendType::ClusterIp, vip),
            (FrontendType::NodePort, Addr::ANY4.to_ip()),
            (FrontendType::External, external),
        ];
        assert_eq!(kinds, expected);
    }
}
