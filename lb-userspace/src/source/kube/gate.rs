//! When the first lists are in (S11).
//!
//! Owns: one stream of batches from three watches, and the place of [`Update::InitialListsDone`] in it. Must not know: how the lists
//! came.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::resource::Which;
use crate::model::Update;

/// How long the own Node is waited for: from the start, and from when everything else is in while nobody has said whether there is
/// one. Its watch may have begun to wait just before the API server came back.
const NODE: Duration = Duration::from_secs(30);
/// How long it is waited for at least, from when everything else is in, though there is none yet.
const NODE_AFTER_LISTS: Duration = Duration::from_secs(5);
/// Deliveries that are ready and become one batch.
const AT_ONCE: usize = 256;

/// What a watch hands over.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) from: Which,
    pub(super) updates: Vec<Update>,
    /// With these the first list is complete.
    pub(super) listed: bool,
}

/// What of the initial state is in.
#[derive(Debug)]
pub(super) struct Gate {
    services: bool,
    slices: bool,
    node: bool,
    /// The API server has said whether there is a Node.
    node_listed: bool,
    open: bool,
    began: Instant,
    /// When the lists of everything else were in.
    lists_in: Option<Instant>,
}

/// What the gate lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Complete,
    /// There is no Node.
    WithoutNode,
    /// Nobody has said whether there is one.
    NodeUnknown,
}

impl Gate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            services: false,
            slices: false,
            node: false,
            node_listed: false,
            open: false,
            began: now,
            lists_in: None,
        }
    }

    /// Takes note of what came.
    pub(super) fn note(&mut self, delivery: &Delivery, now: Instant) {
        match delivery.from {
            Which::Services => self.services |= delivery.listed,
            Which::EndpointSlices => self.slices |= delivery.listed,
            Which::OwnNode => {
                self.node_listed |= delivery.listed;
                for update in &delivery.updates {
                    match update {
                        Update::NodeApplied(_) => self.node = true,
                        Update::NodeDeleted(_) => self.node = false,
                        _ => {}
                    }
                }
            }
        }
        if self.services && self.slices {
            self.lists_in.get_or_insert(now);
        }
    }

    /// Whether it opens now; it does so once.
    pub(super) fn opens(&mut self, now: Instant) -> Option<Opening> {
        let deadline = self.alarm()?;
        let opening = match self.node {
            true => Opening::Complete,
            false if now < deadline => return None,
            false if self.node_listed => Opening::WithoutNode,
            false => Opening::NodeUnknown,
        };
        self.open = true;
        Some(opening)
    }

    /// When the Node is no longer waited for, once it is all that is waited for.
    fn alarm(&self) -> Option<Instant> {
        let lists_in = self.lists_in.filter(|_| !self.open)?;
        let more = if self.node_listed { NODE_AFTER_LISTS } else { NODE };
        Some((self.began + NODE).max(lists_in + more))
    }
}

/// Joins what the watches deliver, until they or their listener are gone.
pub(super) async fn join(
    mut deliveries: mpsc::Receiver<Delivery>,
    batches: mpsc::Sender<Vec<Update>>,
    node_name: String,
) {
    let mut gate = Gate::new(Instant::now());
    let mut ready = Vec::new();
    loop {
        let alarm = gate.alarm();
        let count = tokio::select! {
            count = deliveries.recv_many(&mut ready, AT_ONCE) => count,
            () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => 0,
            () = batches.closed() => return,
        };
        if count == 0 && alarm.is_none_or(|alarm| alarm > Instant::now()) {
            return;
        }
        let mut batch = Vec::new();
        for delivery in ready.drain(..) {
            gate.note(&delivery, Instant::now());
            batch.extend(delivery.updates);
        }
        if let Some(opening) = gate.opens(Instant::now()) {
            match opening {
                Opening::Complete => {}
                Opening::WithoutNode => tracing::warn!(
                    "there is no Node {node_name:?}: Services are served without its zone and addresses until it appears; when \
                     this node is registered under another name, give it with --hostname-override"
                ),
                Opening::NodeUnknown => tracing::warn!(
                    "Node {node_name:?} could not be read yet: Services are served without its zone and addresses until it is"
                ),
            }
            batch.push(Update::InitialListsDone);
        }
        if !batch.is_empty() && batches.send(batch).await.is_err() {
            return;
        }
    }
}
