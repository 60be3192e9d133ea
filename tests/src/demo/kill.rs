//! Kills a backend while calls keep coming, and shows where they go.
//!
//! Owns: choosing the victim and the three counts: before, until the agents have taken it out, after. Must not know:
//! how slices are written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::probe::{CallerId, Expect, Frontend, FrontendKind, Probe};
use super::session::check;
use crate::client::{Caller, Outcome};
use crate::poll;
use crate::server::Protocol;

/// How long the agents may take to notice a changed slice.
const APPLY: Duration = Duration::from_secs(20);
/// Calls under way at the same time while the backend dies.
const BATCH: usize = 4;
/// The least calls counted before and after: enough to see everybody.
const LEAST: usize = 30;

/// How it went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Killed {
    /// `namespace/name:port`.
    pub(super) service: String,
    pub(super) address: String,
    pub(super) pod: String,
    /// Who answered how often.
    pub(super) before: BTreeMap<String, usize>,
    /// Between the server's end and its leaving every node's maps; others than answers by their words.
    pub(super) between: BTreeMap<String, usize>,
    /// Afterwards.
    pub(super) after: BTreeMap<String, usize>,
    /// How long the nodes took.
    pub(super) applied_after_ms: u128,
    pub(super) requests: usize,
    /// By what went wrong, afterwards (or before).
    pub(super) failures: BTreeMap<String, usize>,
}

/// Kills an endpoint of a Service that has another one; `None` when no Service has.
pub(super) fn run(
    cluster: &mut Cluster,
    probes: &[Probe],
    requests: usize,
    stop: &CancellationToken,
) -> Result<Option<Killed>> {
    let Some((frontend, victim)) = choose(probes, cluster) else {
        return Ok(None);
    };
    let caller = Caller::new(cluster.topology.client().ns());
    let (protocol, to) = (frontend.protocol, frontend.to);
    let count = requests.max(LEAST);
    let mut killed = Killed {
        service: frontend.service_port(),
        address: frontend.address(),
        pod: victim.clone(),
        before: BTreeMap::new(),
        between: BTreeMap::new(),
        after: BTreeMap::new(),
        applied_after_ms: 0,
        requests: 0,
        failures: BTreeMap::new(),
    };
    for outcome in caller.calls(protocol, to, count) {
        killed.requests += 1;
        match outcome.by() {
            Some(by) => *killed.before.entry(by.to_owned()).or_default() += 1,
            None => *killed.failures.entry(format!("before: {outcome}")).or_default() += 1,
        }
    }
    check(stop)?;

    let enough = AtomicBool::new(false);
    let (calls, applied) = thread::scope(|scope| {
        let calls = scope.spawn(|| keep_calling(&caller, &frontend, &enough));
        let applied = take_out(cluster, &victim, stop);
        enough.store(true, Ordering::Relaxed);
        let calls = calls
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        applied.map(|applied| (calls, applied))
    })?;
    killed.applied_after_ms = applied.1.duration_since(applied.0).as_millis();
    cluster.remove_pod(&victim);
    for (at, outcome) in calls {
        killed.requests += 1;
        if at < applied.1 {
            let word = outcome
                .by()
                .map_or_else(|| outcome.to_string(), ToOwned::to_owned);
            *killed.between.entry(word).or_default() += 1;
        } else {
            killed.count_after(&outcome);
        }
    }
    for outcome in caller.calls(protocol, to, count) {
        killed.requests += 1;
        killed.count_after(&outcome);
    }
    check(stop)?;
    Ok(Some(killed))
}

impl Killed {
    pub(super) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    fn count_after(&mut self, outcome: &Outcome) {
        match outcome.by() {
            Some(by) if by != self.pod => *self.after.entry(by.to_owned()).or_default() += 1,
            _ => {
                *self
                    .failures
                    .entry(format!("after the kill: {outcome}"))
                    .or_default() += 1
            }
        }
    }
}

/// The Service with the most endpoints, by what the client calls it from outside; the victim is its last pod.
fn choose(probes: &[Probe], cluster: &Cluster) -> Option<(Frontend, String)> {
    let candidate = |probe: &Probe| -> Option<(usize, Frontend, String)> {
        let Expect::Answer {
            endpoints,
            affinity: false,
            ..
        } = &probe.expect
        else {
            return None;
        };
        // Only pods that came of a selector: endpoints somebody wrote down are theirs to take out.
        let victim = endpoints.values().rev().find(|name| {
            cluster
                .pods
                .iter()
                .any(|pod| &pod.name == *name && !pod.namespace.is_empty())
        })?;
        let suits = probe.caller == CallerId::Client && endpoints.len() > 1;
        // Of equal ones TCP before UDP, and load balancers first: that is what people call from outside.
        let rank = endpoints.len() * 4
            + usize::from(probe.frontend.protocol == Protocol::Tcp) * 2
            + usize::from(probe.frontend.kind == FrontendKind::LoadBalancer);
        suits.then(|| (rank, probe.frontend.clone(), victim.clone()))
    };
    let mut best: Option<(usize, Frontend, String)> = None;
    for found in probes.iter().filter_map(candidate) {
        if best.as_ref().is_none_or(|best| found.0 > best.0) {
            best = Some(found);
        }
    }
    best.map(|(_, frontend, victim)| (frontend, victim))
}

fn keep_calling(caller: &Caller, frontend: &Frontend, enough: &AtomicBool) -> Vec<(Instant, Outcome)> {
    let mut calls = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        let at = Instant::now();
        let outcomes = caller.calls(frontend.protocol, frontend.to, BATCH);
        calls.extend(outcomes.into_iter().map(|outcome| (at, outcome)));
    }
    calls
}

/// Stops the server and takes it out of the slices; gives when, and when all nodes had done the same.
fn take_out(cluster: &mut Cluster, victim: &str, stop: &CancellationToken) -> Result<(Instant, Instant)> {
    let pod = cluster.pods.iter().find(|pod| pod.name == victim);
    let addresses = pod
        .with_context(|| format!("no pod {victim}"))?
        .addresses()
        .map(|address| address.to_string());
    cluster.stop_server(victim);
    let killed = Instant::now();
    cluster.withdraw(victim)?;
    for agent in &cluster.agents {
        poll::until("a killed pod leaving the maps", APPLY, || {
            if stop.is_cancelled() {
                return Ok(Ok(()));
            }
            let rows = match agent.xvip_json(&["get", "backends"]) {
                Ok(rows) => rows,
                Err(error) => return Ok(Err(error)),
            };
            let Some(rows) = rows.as_array() else {
                return Err(format!("no list of backends: {rows}"));
            };
            let serving = rows.iter().any(|row| {
                addresses
                    .iter()
                    .any(|address| row["address"].as_str() == Some(address))
                    && row["state"] == "serving"
            });
            if serving {
                Err(format!("{victim} is still a serving backend"))
            } else {
                Ok(Ok(()))
            }
        })
        .with_context(|| agent.log())??;
    }
    if stop.is_cancelled() {
        bail!("interrupted");
    }
    Ok((killed, Instant::now()))
}
