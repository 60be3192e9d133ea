//! `xvip get backends`: the endpoints of service ports.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::backend::{Backend, IN_CLUSTER_LIST, IN_LOCAL_LIST, LOCAL};
use serde::Serialize;

use super::{Scope, words};
use crate::cli::output::{Column, Row};
use crate::snapshot::Snapshot;

/// An endpoint of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRow {
    /// `namespace/name:port`.
    pub service: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The protocol.
    pub protocol: String,
    /// What it is used for.
    pub state: BackendState,
    /// Whether it is on this node.
    pub local: bool,
    /// The lists new connections choose from that it is in: `cluster`, `local`.
    pub lists: Vec<&'static str>,
    /// Connections the flow tables hold for it.
    pub connections: usize,
    /// Its index in map `backends`.
    pub index: u32,
    /// Moves when its flows end.
    pub generation: u32,
    /// Moves when it leaves a list.
    pub epoch: u32,
}

/// What a backend is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendState {
    /// New connections reach it.
    Serving,
    /// Only the connections it has.
    Draining,
    /// None: its connections are chosen anew or told.
    Dead,
}

impl BackendState {
    fn of(backend: &Backend) -> Self {
        if !backend.generation.is_multiple_of(2) {
            Self::Dead
        } else if backend.flags & (IN_CLUSTER_LIST | IN_LOCAL_LIST) != 0 {
            Self::Serving
        } else {
            Self::Draining
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Dead => "dead",
        }
    }
}

/// The backends of a scope, by service, address and index.
#[must_use]
pub fn rows(snapshot: &Snapshot, scope: &Scope) -> Vec<BackendRow> {
    let mut connections: HashMap<u32, usize> = HashMap::new();
    for connection in snapshot.connections() {
        if snapshot.is_live(&connection.forward) {
            *connections.entry(connection.forward.backend).or_default() += 1;
        }
    }
    let shown = snapshot
        .backends
        .iter()
        .filter(|(_, backend)| scope.holds(snapshot, backend.service));
    let mut rows: Vec<BackendRow> = shown
        .map(|(&index, backend)| BackendRow {
            service: snapshot.service_name(backend.service),
            address: backend.addr.to_ip(),
            port: backend.port.number(),
            protocol: words::protocol(backend.proto),
            state: BackendState::of(backend),
            local: backend.flags & LOCAL != 0,
            lists: lists(backend),
            connections: connections.get(&index).copied().unwrap_or_default(),
            index,
            generation: backend.generation,
            epoch: backend.epoch,
        })
        .collect();
    rows.sort_by(|a, b| {
        (&a.service, a.address, a.port, a.index).cmp(&(&b.service, b.address, b.port, b.index))
    });
    rows
}

fn lists(backend: &Backend) -> Vec<&'static str> {
    let lists = [(IN_CLUSTER_LIST, "cluster"), (IN_LOCAL_LIST, "local")];
    lists
        .iter()
        .filter(|(bit, _)| backend.flags & bit != 0)
        .map(|(_, name)| *name)
        .collect()
}

impl Row for BackendRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("SERVICE"),
        Column::new("BACKEND"),
        Column::new("STATE"),
        Column::new("WHERE"),
        Column::new("LISTS"),
        Column::new("CONNECTIONS"),
        Column::wide("INDEX"),
        Column::wide("GENERATION"),
        Column::wide("EPOCH"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        vec![vec![
            self.service.clone(),
            format!("{}/{}", SocketAddr::new(self.address, self.port), self.protocol),
            self.state.text().to_owned(),
            if self.local { "this node" } else { "remote" }.to_owned(),
            if self.lists.is_empty() {
                "-".to_owned()
            } else {
                self.lists.join(",")
            },
            self.connections.to_string(),
            self.index.to_string(),
            self.generation.to_string(),
            self.epoch.to_string(),
        ]]
    }
}
