//! `xvip get affinity`: which backend a client of a service port had last (S32).

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Scope, words};
use crate::cli::output::{Column, Row};
use crate::snapshot::Snapshot;

/// A remembered choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityRow {
    /// `namespace/name:port`.
    pub service: String,
    /// The client.
    pub client: IpAddr,
    /// Its backend; absent when the index is free again.
    pub backend: Option<SocketAddr>,
    /// Seconds since its last new connection.
    pub idle_seconds: Option<u32>,
    /// Seconds until it is forgotten; 0 when it is already.
    pub left_seconds: Option<u32>,
    /// Whether the next connection would still follow it.
    pub valid: bool,
}

/// The remembered choices of a scope, by service and client.
#[must_use]
pub fn rows(snapshot: &Snapshot, scope: &Scope) -> Vec<AffinityRow> {
    let shown = snapshot
        .affinity
        .iter()
        .filter(|(key, _)| scope.holds(snapshot, key.service));
    let mut rows: Vec<AffinityRow> = shown
        .map(|(key, value)| {
            let backend = snapshot
                .backends
                .get(&value.backend)
                .filter(|backend| backend.service == key.service);
            let timeout = timeout_of(snapshot, key.service);
            let idle_seconds = snapshot.seconds_since(value.last_used);
            let left_seconds = timeout
                .zip(idle_seconds)
                .map(|(timeout, idle)| timeout.saturating_sub(idle));
            AffinityRow {
                service: snapshot.service_name(key.service),
                client: key.client.to_ip(),
                backend: backend.map(|backend| SocketAddr::new(backend.addr.to_ip(), backend.port.number())),
                idle_seconds,
                left_seconds,
                valid: left_seconds != Some(0) && backend.is_some_and(|backend| backend.epoch == value.epoch),
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.service, a.client).cmp(&(&b.service, b.client)));
    rows
}

/// The longest timeout a record of the service port has: for a moment there are two, the old and the new.
fn timeout_of(snapshot: &Snapshot, service: u32) -> Option<u32> {
    let records = snapshot
        .services
        .values()
        .filter(|record| record.service == service);
    records.map(|record| record.affinity_seconds).max()
}

impl Row for AffinityRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("SERVICE"),
        Column::new("CLIENT"),
        Column::new("BACKEND"),
        Column::new("IDLE"),
        Column::new("FORGOTTEN IN"),
        Column::new("VALID"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        let none = || "-".to_owned();
        vec![vec![
            self.service.clone(),
            self.client.to_string(),
            self.backend.map_or_else(none, |backend| backend.to_string()),
            self.idle_seconds.map_or_else(none, words::seconds),
            self.left_seconds.map_or_else(none, words::seconds),
            if self.valid { "yes" } else { "no" }.to_owned(),
        ]]
    }
}
