//! Makes the calls and judges the outcomes.
//!
//! Owns: tallies. Must not know: why an outcome is expected.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::probe::{CallerId, Expect, Probe, World};
use super::session::check;
use super::slices::node_name;
use crate::client::{Caller, Outcome};
use crate::netns::NsHandle;
use crate::server::Answer;

/// How a probe's calls went.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) requests: usize,
    /// Right answers, and refusals where they are right.
    pub(super) succeeded: usize,
    /// By the name of who answered.
    pub(super) answered: BTreeMap<String, usize>,
    /// By what endpoints took the caller for: `its own` or a node's name.
    pub(super) seen: BTreeMap<String, usize>,
    /// Refused, as expected.
    pub(super) refused: usize,
    /// By what went wrong.
    pub(super) failures: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    /// Adds another's counts.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.succeeded += other.succeeded;
        self.refused += other.refused;
        for (mine, others) in [
            (&mut self.answered, &other.answered),
            (&mut self.seen, &other.seen),
            (&mut self.failures, &other.failures),
        ] {
            for (key, count) in others {
                *mine.entry(key.clone()).or_default() += count;
            }
        }
    }

    fn add(&mut self, probe: &Probe, outcome: &Outcome, world: &World) {
        self.requests += 1;
        match judge(probe, outcome, world) {
            Ok(Some((by, seen))) => {
                *self.answered.entry(by).or_default() += 1;
                *self.seen.entry(seen).or_default() += 1;
                self.succeeded += 1;
            }
            Ok(None) => {
                self.refused += 1;
                self.succeeded += 1;
            }
            Err(reason) => *self.failures.entry(reason).or_default() += 1,
        }
    }

    /// All calls of one caller have to reach one endpoint: those that reached another are failures.
    fn hold_to_affinity(&mut self) {
        let most = self.answered.values().max().copied().unwrap_or_default();
        let strays = self.answered.values().sum::<usize>() - most;
        if strays > 0 {
            self.succeeded -= strays;
            let reason = "session affinity: reached another endpoint than the other calls".to_owned();
            *self.failures.entry(reason).or_default() += strays;
        }
    }
}

/// Makes `requests` calls for each probe, the callers at the same time, each from a fresh port.
pub(super) fn run(
    probes: &[Probe],
    namespaces: &BTreeMap<CallerId, NsHandle>,
    world: &World,
    requests: usize,
    stop: &CancellationToken,
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Tally>> {
    let done = AtomicUsize::new(0);
    let done = &done;
    let progress = &progress;
    let tallies = thread::scope(|scope| {
        let threads: Vec<_> = namespaces
            .iter()
            .map(|(&id, ns)| {
                scope.spawn(move || {
                    let caller = Caller::new(ns);
                    let mut tallies = Vec::new();
                    let own = probes.iter().enumerate().filter(|(_, probe)| probe.caller == id);
                    for (index, probe) in own {
                        if stop.is_cancelled() {
                            break;
                        }
                        tallies.push((index, call(probe, &caller, world, requests)));
                        progress(done.fetch_add(requests, Ordering::Relaxed) + requests);
                    }
                    tallies
                })
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect::<Vec<_>>();
        joined.into_iter().flatten().collect::<BTreeMap<_, _>>()
    });
    check(stop)?;
    Ok(tallies.into_values().collect())
}

fn call(probe: &Probe, caller: &Caller, world: &World, requests: usize) -> Tally {
    let (protocol, to) = (probe.frontend.protocol, probe.frontend.to);
    let affinity = matches!(probe.expect, Expect::Answer { affinity: true, .. });
    let mut tally = Tally::default();
    if affinity {
        // One after the other: what a client is remembered by is its earlier calls.
        for _ in 0..requests {
            tally.add(probe, &caller.call(protocol, to), world);
        }
        tally.hold_to_affinity();
    } else {
        for outcome in caller.calls(protocol, to, requests) {
            tally.add(probe, &outcome, world);
        }
    }
    tally
}

/// Who answered and whom it took for the caller; nothing for a right refusal.
fn judge(probe: &Probe, outcome: &Outcome, world: &World) -> Result<Option<(String, String)>, String> {
    match (&probe.expect, outcome) {
        (Expect::Refused, Outcome::Refused | Outcome::Unreachable) => Ok(None),
        (Expect::Refused, other) => Err(format!(
            "{other}, though there is no endpoint: a refusal was expected"
        )),
        (
            Expect::Answer {
                endpoints,
                keeps_address,
                ..
            },
            Outcome::Answered(answer),
        ) => {
            let Some(name) = endpoints.get(&answer.local) else {
                return Err(format!(
                    "answered by {} at {}, which is no endpoint here",
                    answer.pod, answer.local
                ));
            };
            let seen = seen(probe, answer, world).ok_or_else(|| {
                format!(
                    "{name} took the caller for {}, which is neither it nor its node",
                    answer.client.ip()
                )
            })?;
            if *keeps_address && seen != OWN {
                return Err(format!(
                    "{name} took the caller for {seen}; its own address has to be kept here"
                ));
            }
            Ok(Some((name.clone(), seen)))
        }
        (Expect::Answer { .. }, other) => Err(other.to_string()),
    }
}

/// The caller's own address was seen.
pub(super) const OWN: &str = "its own";

fn seen(probe: &Probe, answer: &Answer, world: &World) -> Option<String> {
    let client = answer.client.ip();
    let own: &[IpAddr; 2] = match probe.caller {
        CallerId::Client => &world.client,
        CallerId::Pod(node) => &world.callers[usize::from(node)],
    };
    if own.contains(&client) {
        return Some(OWN.to_owned());
    }
    world.nodes[usize::from(probe.entry)]
        .contains(&client)
        .then(|| node_name(probe.entry))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use lb_userspace::model::{self, ServiceKey, ServicePort};

    use super::*;
    use crate::demo::probe::{Frontend, FrontendKind};
    use crate::server::Protocol;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn probe(expect: Expect) -> Probe {
        Probe {
            frontend: Frontend {
                service: ServiceKey::new("default", "web"),
                port: ServicePort {
                    name: String::new(),
                    protocol: model::Protocol::Tcp,
                    port: 80,
                    node_port: None,
                },
                kind: FrontendKind::LoadBalancer,
                to: address("198.51.100.1:80"),
                protocol: Protocol::Tcp,
            },
            caller: CallerId::Client,
            entry: 1,
            expect,
        }
    }

    fn world() -> World {
        let pair = |text: &str| [text.parse().unwrap(), "2001:db8::1".parse().unwrap()];
        World {
            nodes: vec![pair("192.0.2.10"), pair("192.0.2.11")],
            client: pair("192.0.2.100"),
            callers: Vec::new(),
            pods: BTreeMap::new(),
        }
    }

    fn answer(pod: &str, local: &str, client: &str) -> Outcome {
        Outcome::Answered(Answer {
            pod: pod.to_owned(),
            client: address(client),
            local: address(local),
            echo: String::new(),
        })
    }

    fn endpoints(keeps_address: bool) -> Expect {
        Expect::Answer {
            endpoints: [("10.244.0.2:80", "web-0"), ("10.244.1.2:80", "web-1")]
                .map(|(at, name)| (address(at), name.to_owned()))
                .into(),
            keeps_address,
            affinity: false,
        }
    }

    #[test]
    fn an_outcome_is_right_only_as_a_whole() {
        let cases = [
            (
                endpoints(false),
                answer("web-0", "10.244.0.2:80", "192.0.2.100:5"),
                Ok("web-0 saw its own"),
            ),
            (
                endpoints(false),
                answer("web-0", "10.244.0.2:80", "192.0.2.11:5"),
                Ok("web-0 saw node1"),
            ),
            (
                endpoints(false),
                answer("web-0", "10.244.0.2:80", "192.0.2.10:5"),
                Err("web-0 took the caller for 192.0.2.10, which is neither it nor its node"),
            ),
            (
                endpoints(true),
                answer("web-0", "10.244.0.2:80", "192.0.2.11:5"),
                Err("web-0 took the caller for node1; its own address has to be kept here"),
            ),
            (
                endpoints(false),
                answer("db-0", "10.244.0.9:80", "192.0.2.100:5"),
                Err("answered by db-0 at 10.244.0.9:80, which is no endpoint here"),
            ),
            (
                endpoints(false),
                answer("web-0", "10.244.0.2:81", "192.0.2.100:5"),
                Err("answered by web-0 at 10.244.0.2:81, which is no endpoint here"),
            ),
            (endpoints(false), Outcome::Refused, Err("refused")),
            (Expect::Refused, Outcome::Refused, Ok("")),
            (Expect::Refused, Outcome::Unreachable, Ok("")),
            (
                Expect::Refused,
                Outcome::TimedOut,
                Err("timed out, though there is no endpoint: a refusal was expected"),
            ),
        ];
        for (expect, outcome, expected) in cases {
            let judged = judge(&probe(expect), &outcome, &world()).map(|right| {
                right
                    .map(|(by, seen)| format!("{by} saw {seen}"))
                    .unwrap_or_default()
            });
            assert_eq!(
                judged,
                expected.map(ToOwned::to_owned).map_err(ToOwned::to_owned),
                "{outcome}"
            );
        }
    }

    #[test]
    fn one_stray_call_breaks_affinity() {
        let probe = probe(endpoints(false));
        let mut tally = Tally::default();
        for pod in ["10.244.0.2:80", "10.244.1.2:80", "10.244.0.2:80"] {
            tally.add(&probe, &answer("", pod, "192.0.2.100:5"), &world());
        }
        tally.hold_to_affinity();
        assert_eq!((tally.requests, tally.succeeded, tally.failed()), (3, 2, 1));
    }
}
