//! Telling the owners of objects, as Events, what is wrong with them.
//!
//! What there is to tell is about the cluster's objects, not about a node: each node finds the same fault in the same Service.
//! A Service's owner wants to read it once. So an event's name is made from what it says (object, uid, reason, note): the
//! first node to tell it is its `reportingInstance`, and the others are answered that it exists already, as is an agent
//! that starts again. A node that itself sees the same again tells so in the event's `series`, which also keeps the event alive;
//! not before ten minutes are over. Each node limits what it sends ([`limit`]); what is held back or cannot be told is in the log
//! of whoever noticed it, and is not kept for later.
//!
//! `kube::runtime::events::Recorder` is not used: it names events by the time, so a thousand nodes would make a thousand of
//! them; it takes events for the same that differ in their note alone; and it knows one API server.
//!
//! Owns: sending, and what becomes of it. Must not know: why an event is sent, or which server is in use: which one is, the
//! watches decide, who see more of it.

mod form;
mod limit;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;

use self::limit::{Dropped, Limiter, Limits, Verdict};
use super::access::Servers;
use crate::source::events::ObjectEvent;

/// The cause the API server names when a namespace on its way out takes no new objects.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// How hard it is tried.
#[derive(Clone, Copy, Debug)]
struct Effort {
    limits: Limits,
    /// How often an event is tried to be sent.
    tries: u32,
    /// How long to wait in between, the first time; twice as long each time after.
    pause: Duration,
    /// How long an answer is waited for.
    patience: Duration,
    /// How often drops are said.
    say_drops: Duration,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            tries: 4,
            pause: Duration::from_secs(1),
            patience: Duration::from_secs(10),
            say_drops: Duration::from_secs(600),
        }
    }
}

/// Tells what comes out of the queue until nobody can put anything in. While it sends, the queue waits, and drops what it has no
/// room for.
pub(super) async fn publish(queue: mpsc::Receiver<ObjectEvent>, servers: Servers, node: String) {
    Publisher::new(servers, node, Effort::default()).run(queue).await;
}

/// What was asked of the API server; an RBAC verb each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Create,
    Patch,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It is there.
    Told,
    /// The event to patch is gone.
    Gone,
    /// The namespace is gone or going, and with it whoever would read the event.
    Pointless,
    /// We may not.
    Forbidden(String),
    /// It is wrong.
    Refused(String),
    /// Another time, perhaps.
    Unavailable(String),
}

struct Publisher {
    servers: Servers,
    node: String,
    effort: Effort,
    limiter: Limiter,
    dropped: Dropped,
    /// What we were forbidden, as far as it was said.
    forbidden: BTreeSet<Verb>,
}

impl Publisher {
    fn new(servers: Servers, node: String, effort: Effort) -> Self {
        Self {
            servers,
            node,
            effort,
            limiter: Limiter::new(effort.limits, Instant::now()),
            dropped: Dropped::default(),
            forbidden: BTreeSet::new(),
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<ObjectEvent>) {
        while let Some(event) = queue.recv().await {
            let name = form::name(&event);
            match self.limiter.judge(&event.object, &name, Instant::now()) {
                Verdict::Create => self.tell(&event, &name, None).await,
                Verdict::Repeat(count) => self.tell(&event, &name, Some(count)).await,
                Verdict::Wait => {}
                Verdict::Drop => self.drop("too many"),
            }
        }
    }

    /// Creates an event, or patches it with how often it was seen.
    async fn tell(&mut self, event: &ObjectEvent, name: &str, mut repeat: Option<i32>) {
        let mut pause = self.effort.pause;
        let mut failure = String::new();
        for attempt in 0..self.effort.tries {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let mut answer = self.send(event, name, repeat).await;
            if answer == Answer::Gone {
                repeat = None;
                answer = self.send(event, name, repeat).await;
            }
            let verb = if repeat.is_some() {
                Verb::Patch
            } else {
                Verb::Create
            };
            match answer {
                Answer::Told => {
                    self.forbidden.remove(&verb);
                    return;
                }
                Answer::Gone | Answer::Pointless => return,
                Answer::Forbidden(reason) => {
                    self.limiter.untold(name);
                    if self.forbidden.insert(verb) {
                        tracing::warn!("events cannot be told: {reason}");
                    }
                    return;
                }
                Answer::Refused(reason) => {
                    tracing::warn!("{}: event {name} was refused: {reason}", event.object);
                    return;
                }
                Answer::Unavailable(reason) => failure = reason,
            }
        }
        self.limiter.untold(name);
        self.drop(&failure);
    }

    /// Asks once.
    async fn send(&self, event: &ObjectEvent, name: &str, repeat: Option<i32>) -> Answer {
        let (_, client) = self.servers.current();
        let api: Api<Event> = Api::namespaced(client, form::namespace(&event.object));
        let now = Timestamp::now();
        let sending = async {
            match repeat {
                None => {
                    let event = form::event(event, &self.node, now);
                    api.create(&PostParams::default(), &event).await
                }
                Some(count) => {
                    let patch = Patch::Merge(form::repeat(count, now));
                    api.patch(name, &PatchParams::default(), &patch).await
                }
            }
        };
        match tokio::time::timeout(self.effort.patience, sending).await {
            Ok(answer) => read(answer.map(|_| ()), repeat.is_some()),
            Err(_) => Answer::Unavailable("no answer".to_owned()),
        }
    }

    /// Counts an event that nobody will be told of.
    fn drop(&mut self, reason: &str) {
        if let Some(count) = self.dropped.add(self.effort.say_drops, Instant::now()) {
            tracing::warn!(
                count,
                "events were not told ({reason}); what they say is in the log"
            );
        }
    }
}

/// What the API server's answer means.
fn read(answer: kube::Result<()>, is_patch: bool) -> Answer {
    let status = match answer {
        Ok(()) => return Answer::Told,
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Answer::Unavailable(error.to_string()),
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let terminating = causes
        .into_iter()
        .any(|cause| cause.reason == NAMESPACE_TERMINATING);
    match status.code {
        403 if terminating => Answer::Pointless,
        403 => Answer::Forbidden(status.message),
        404 if is_patch => Answer::Gone,
        404 => Answer::Pointless,
        409 => Answer::Told,
        // Too large, unsupported or plainly wrong; 401, 408 and 429 may be otherwise in a second.
        400 | 405 | 413 | 415 | 422 => Answer::Refused(status.message),
        _ => Answer::Unavailable(status.message),
    }
}
