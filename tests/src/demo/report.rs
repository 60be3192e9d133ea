//! What people and programs get to see at the end: tables and figures.
//!
//! Owns: the renderings, pure. Must not know: how the figures came about.

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::kill::Killed;
use super::probe::{Frontend, FrontendKind, Probe, protocol_word};
use super::traffic::Tally;

/// The figures of a demo.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Services in the manifests that the balancer serves.
    pub services: usize,
    /// Calls made.
    pub requests: usize,
    /// Calls that did not go as they should.
    pub failed: usize,
    /// Objects of the manifests that were refused.
    pub refused_objects: usize,
    /// From start to summary.
    pub seconds: f64,
    /// Nodes of the lab.
    pub nodes: usize,
    /// Pods with servers, at the start.
    pub pods: usize,
    frontends: Vec<FrontendFigures>,
    killed: Option<Killed>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct FrontendFigures {
    service: String,
    port: u16,
    kind: FrontendKind,
    address: String,
    family: &'static str,
    protocol: &'static str,
    requests: usize,
    failed: usize,
    refused_as_expected: usize,
    answered: BTreeMap<String, usize>,
    client_seen_as: BTreeMap<String, usize>,
    failures: BTreeMap<String, usize>,
}

/// A frontend with the sum of its probes.
pub(super) type Sum = (Frontend, Tally);

/// Sums up by frontend, in the order of namespace and name.
pub(super) fn by_frontend(probes: &[Probe], tallies: &[Tally]) -> Vec<Sum> {
    let mut sums: BTreeMap<&Frontend, Tally> = BTreeMap::new();
    for (probe, tally) in probes.iter().zip(tallies) {
        sums.entry(&probe.frontend).or_default().merge(tally);
    }
    sums.into_iter()
        .map(|(frontend, tally)| (frontend.clone(), tally))
        .collect()
}

impl Figures {
    pub(super) fn new(
        services: usize,
        refused_objects: usize,
        nodes: usize,
        pods: usize,
        sums: &[Sum],
        killed: Option<Killed>,
        seconds: f64,
    ) -> Self {
        let killed_requests = killed.as_ref().map_or(0, |killed| killed.requests);
        let killed_failed = killed.as_ref().map_or(0, Killed::failed);
        Self {
            services,
            requests: sums.iter().map(|(_, tally)| tally.requests).sum::<usize>() + killed_requests,
            failed: sums.iter().map(|(_, tally)| tally.failed()).sum::<usize>() + killed_failed,
            refused_objects,
            seconds,
            nodes,
            pods,
            frontends: sums.iter().map(frontend_figures).collect(),
            killed,
        }
    }

    /// Whether everything went as it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.refused_objects == 0
    }

    /// The line a demo ends with.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "demo: {} services, {} requests, {} failed",
            self.services, self.requests, self.failed
        )
    }
}

fn frontend_figures((frontend, tally): &Sum) -> FrontendFigures {
    FrontendFigures {
        service: frontend.service_port(),
        port: frontend.to.port(),
        kind: frontend.kind,
        address: frontend.to.ip().to_string(),
        family: family(frontend),
        protocol: protocol_word(frontend.protocol),
        requests: tally.requests,
        failed: tally.failed(),
        refused_as_expected: tally.refused,
        answered: tally.answered.clone(),
        client_seen_as: tally.seen.clone(),
        failures: tally.failures.clone(),
    }
}

/// Who answered how often, and whom they saw.
pub(super) fn table(sums: &[Sum]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header([
            "service:port",
            "frontend",
            "address",
            "who answered",
            "client address seen",
            "failed",
        ]);
    let mut last = String::new();
    for (frontend, tally) in sums {
        let service = frontend.service_port();
        let mut who = counts(&tally.answered);
        if tally.refused > 0 {
            who.push(format!("refused, no endpoints: {}", tally.refused));
        }
        let shown = if service == last {
            String::new()
        } else {
            service.clone()
        };
        table.add_row([
            shown,
            format!("{} {}", frontend.kind, family(frontend)),
            frontend.address(),
            who.join("\n"),
            counts(&tally.seen).join("\n"),
            tally.failed().to_string(),
        ]);
        last = service;
    }
    table.to_string()
}

/// One line for each thing that went wrong: who, what, why, how often.
pub(super) fn failures(probes: &[Probe], tallies: &[Tally]) -> Vec<String> {
    let mut lines = Vec::new();
    for (probe, tally) in probes.iter().zip(tallies) {
        for (reason, count) in &tally.failures {
            lines.push(format!(
                "{} → {} ({} {}): {reason} ({count} of {})",
                probe.caller,
                probe.frontend.address(),
                probe.frontend.service_port(),
                probe.frontend.kind,
                tally.requests
            ));
        }
    }
    lines
}

/// The kill, as three distributions.
pub(super) fn kill(killed: &Killed) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(["before", "while it died", "after"]);
    table.add_row([
        counts(&killed.before).join("\n"),
        counts(&killed.between).join("\n"),
        counts(&killed.after).join("\n"),
    ]);
    let mut text = format!(
        "killed {} behind {} ({}); all nodes had it out of their maps {} ms later\n{table}",
        killed.pod, killed.service, killed.address, killed.applied_after_ms
    );
    for (reason, count) in &killed.failures {
        text.push_str(&format!("\nfailed {count} times {reason}"));
    }
    text
}

fn counts(map: &BTreeMap<String, usize>) -> Vec<String> {
    map.iter().map(|(key, count)| format!("{key}: {count}")).collect()
}

fn family(frontend: &Frontend) -> &'static str {
    if frontend.to.is_ipv4() { "IPv4" } else { "IPv6" }
}
