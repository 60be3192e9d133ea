//! One watch, from its first event to its end.
//!
//! Must not know: HTTP, other watches.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::cache::{Cache, Follower};
use super::refusal::Refusal;
use super::request::ListOptions;
use super::resource::Resource;
use super::selector::Filter;
use super::store::{Change, Store, set_version};
use super::watches::{Command, Cut, Place};
use super::wire::Ending;

/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// How long a watch lasts that does not say: the API server chooses between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What a watch reads from, and how it ends.
#[derive(Debug)]
pub(super) struct Source {
    pub store: Store,
    pub cache: Arc<Cache>,
    pub place: Place,
    pub ending: Ending,
}

/// A running watch: [`Watch::next`] gives its body, a chunk an event.
#[derive(Debug)]
pub(super) struct Watch {
    source: Source,
    resource: Resource,
    filter: Filter,
    options: ListOptions,
    follower: Follower,
    /// All changes up to this version have been told; `None` before it has begun.
    told: Option<u64>,
    ready: VecDeque<Bytes>,
    ended: bool,
    deadline: Instant,
    bookmarks: Option<Interval>,
}

impl Watch {
    pub(super) fn new(source: Source, resource: Resource, filter: Filter, options: ListOptions) -> Self {
        let now = Instant::now();
        let bookmarks = options.bookmarks.then(|| {
            let mut bookmarks = interval_at(now + BOOKMARK_PERIOD, BOOKMARK_PERIOD);
            bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            bookmarks
        });
        Self {
            follower: source.cache.follow(),
            deadline: now + options.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            source,
            resource,
            filter,
            options,
            told: None,
            ready: VecDeque::new(),
            ended: false,
            bookmarks,
        }
    }

    /// The next chunk of the body; `None` at its orderly end.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(Ok(chunk));
            }
            if self.ended {
                return None;
            }
            let Some(told) = self.told else {
                if let Err(refusal) = self.begin().await {
                    self.say_refusal(refusal);
                }
                continue;
            };
            let told = self.catch_up(told);
            if self.ready.is_empty() {
                self.wait(told).await;
            }
        }
    }

    /// The state at the beginning, where the request asks for it.
    async fn begin(&mut self) -> Result<(), Refusal> {
        let version = match self.options.version {
            Some(version) if version != 0 => version,
            Some(_) => self.source.cache.version(),
            None => self.source.store.version(),
        };
        let from_state =
            self.options.initial_events || self.options.version.is_none_or(|version| version == 0);
        if !from_state {
            let compacted = self.source.store.compacted();
            if version < compacted {
                return Err(Refusal::expired(format!(
                    "too old resource version: {version} ({compacted})"
                )));
            }
            self.told = Some(version);
            return Ok(());
        }
        self.source.cache.fresh(version).await?;
        let version = self.source.cache.version();
        let objects = self
            .source
            .store
            .snapshot(self.resource, version)
            .map_err(|_| Refusal::expired(format!("too old resource version: {version}")))?;
        for object in objects.values().filter(|object| self.filter.takes(object)) {
            self.ready.push_back(event("ADDED", object));
        }
        if self.options.initial_events && self.options.bookmarks {
            self.ready
                .push_back(bookmark(self.resource, version, Some(INITIAL_EVENTS_END)));
        }
        self.told = Some(version);
        Ok(())
    }

    /// Makes events of what the cache has learnt since; returns the version they lead to.
    fn catch_up(&mut self, told: u64) -> u64 {
        let version = self.source.cache.version();
        if version <= told {
            return told;
        }
        for change in self.source.store.changes(self.resource, told, version) {
            self.ready.extend(change_event(&self.filter, &change));
        }
        self.told = Some(version);
        version
    }

    /// Waits for something to do, and does it unless it is to catch up.
    async fn wait(&mut self, told: u64) {
        let command = tokio::select! {
            () = self.follower.moved() => return,
            () = sleep_until(self.deadline) => Command::Cut(Cut::End),
            () = tick(&mut self.bookmarks) => Command::Bookmark,
            command = self.source.place.command() => command,
        };
        // What was written before the command is told before it.
        let told = self.catch_up(told);
        match command {
            Command::Bookmark if self.options.bookmarks => {
                self.ready.push_back(bookmark(self.resource, told, None));
            }
            Command::Bookmark => {}
            Command::Say(bytes) => self.ready.push_back(bytes),
            Command::Cut(Cut::End) => self.ended = true,
            Command::Cut(Cut::Truncate) => {
                // The next chunk goes out by half.
                self.source.ending.cut_next_write();
                self.ready
                    .push_back(event("MODIFIED", &self.resource.empty_object()));
            }
            Command::Cut(Cut::Reset) => {
                self.source.ending.reset();
                pending::<()>().await;
            }
        }
    }

    /// A refusal of a watch is an event, over HTTP 200, and its end.
    fn say_refusal(&mut self, refusal: Refusal) {
        self.ready
            .push_back(event("ERROR", &refusal.status.unwrap_or_default()));
        self.ended = true;
    }
}

async fn tick(bookmarks: &mut Option<Interval>) {
    match bookmarks {
        Some(bookmarks) => {
            bookmarks.tick().await;
        }
        None => pending().await,
    }
}

/// What a change is to a watch that selects: what comes into the selection is added, what leaves it is deleted.
fn change_event(filter: &Filter, change: &Change) -> Option<Bytes> {
    let old = change.old.as_ref().filter(|object| filter.takes(object));
    let new = change.new.as_ref().filter(|object| filter.takes(object));
    match (old, new) {
        (None, None) => None,
        (None, Some(new)) => Some(event("ADDED", new)),
        (Some(_), Some(new)) => Some(event("MODIFIED", new)),
        (Some(old), None) => {
            // As it last was in the selection, at the version it left.
            let mut object = Value::clone(old);
            set_version(&mut object, change.version);
            Some(event("DELETED", &object))
        }
    }
}

fn bookmark(resource: Resource, version: u64, annotation: Option<&str>) -> Bytes {
    let mut object = resource.empty_object();
    set_version(&mut object, version);
    if let Some(annotation) = annotation {
        object["metadata"]["annotations"][annotation] = "true".into();
    }
    event("BOOKMARK", &object)
}

fn event(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}
