//! Counters of verdicts, by reason.

use lb_common::reason::{Disposition, Reason};
use serde::Serialize;

use crate::cli::output::{Column, Row};
use crate::snapshot::Snapshot;

/// A reason that occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonRow {
    /// Its name.
    pub reason: String,
    /// `pass`, `forward`, `reject` or `drop`.
    pub disposition: &'static str,
    /// Packets.
    pub packets: u64,
    /// What it means.
    pub description: String,
}

/// The reasons that occurred, by number.
#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<ReasonRow> {
    let counted = snapshot
        .reasons
        .iter()
        .enumerate()
        .filter(|(_, packets)| **packets != 0);
    counted.map(|(number, &packets)| row(number, packets)).collect()
}

pub(super) fn row(number: usize, packets: u64) -> ReasonRow {
    match Reason::ALL.get(number) {
        Some(reason) => ReasonRow {
            reason: reason.name().to_owned(),
            disposition: disposition(reason.disposition()),
            packets,
            description: reason.description().trim().to_owned(),
        },
        None => ReasonRow {
            reason: format!("reason-{number}"),
            disposition: "unknown",
            packets,
            description: "Counted by a datapath newer than this command.".to_owned(),
        },
    }
}

fn disposition(disposition: Disposition) -> &'static str {
    match disposition {
        Disposition::Pass => "pass",
        Disposition::Forward => "forward",
        Disposition::Reject => "reject",
        Disposition::Drop => "drop",
    }
}

impl Row for ReasonRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("REASON"),
        Column::new("VERDICT"),
        Column::new("PACKETS"),
        Column::new("MEANING"),
    ];

    fn lines(&self) -> Vec<Vec<String>> {
        vec![vec![
            self.reason.clone(),
            self.disposition.to_owned(),
            self.packets.to_string(),
            self.description.clone(),
        ]]
    }
}
