//! What the owner of an object should hear about it: the way from whoever notices to whoever can tell.
//!
//! Owns: the message and its queue. Must not know: how it is told, which a source does (the Kubernetes API as Events; a
//! directory not at all, since what is logged is all its owner reads).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::model::ObjectRef;

/// Messages that may wait. More come only from a storm, and the log has them all.
const WAITING: usize = 256;

/// A warning about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvent {
    /// The object.
    pub object: ObjectRef,
    /// Its `metadata.uid`: `kubectl describe` finds events by it.
    pub uid: String,
    /// Why, in one word as Kubernetes writes reasons.
    pub reason: Reason,
    /// What, for people.
    pub note: String,
}

/// Why an event is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The object is not used; an earlier good version stays in force.
    Refused,
    /// A part of the object is not used (S7).
    PartIgnored,
    /// An address belongs to another Service (S46).
    AddressConflict,
    /// A port of a Service's health check is taken (S40); kube-proxy's word.
    FailedToStartServiceHealthcheck,
}

impl Reason {
    /// As it is written in the event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "Refused",
            Self::PartIgnored => "PartIgnored",
            Self::AddressConflict => "AddressConflict",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
        }
    }
}

/// Where events are left; clones share one queue.
#[derive(Clone, Debug, Default)]
pub struct EventSender {
    queue: Option<mpsc::Sender<ObjectEvent>>,
    dropped: Arc<AtomicU64>,
}

impl EventSender {
    /// A sender and its queue's other end.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ObjectEvent>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let sender = Self {
            queue: Some(sender),
            dropped: Arc::default(),
        };
        (sender, receiver)
    }

    /// Leaves an event. Never waits: with the queue full, or with nobody to tell, the event is dropped. Says whether it was kept.
    pub fn send(&self, event: ObjectEvent) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        let kept = queue.try_send(event).is_ok();
        if !kept {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        kept
    }

    /// How many events were dropped for want of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
