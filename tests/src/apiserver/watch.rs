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
use super::object::set_version;
use super::options::ListOptions;
use super::refusal::Refusal;
use super::resource::Resource;
use super::selector::Filter;
use super::store::{Change, Cursor, Store};
use super::watches::{Command, Cut, Order, Place, Watches};
use super::wire::Ending;

/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// How long a watch lasts that does not say: the API server chooses between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What a watch reads from, where it is entered, and how it ends.
#[derive(Debug)]
pub(super) struct Source {
    pub store: Store,
    pub cache: Arc<Cache>,
    pub watches: Watches,
    pub ending: Ending,
}

/// A running watch: [`Watch::next`] gives its body, a chunk an event.
#[derive(Debug)]
pub(super) struct Watch {
    source: Source,
    place: Place,
    resource: Resource,
    filter: Filter,
    options: ListOptions,
    follower: Follower,
    /// All changes before it have been told; `None` before the watch has begun.
    cursor: Option<Cursor>,
    ready: VecDeque<Bytes>,
    ended: bool,
    /// What is ready is the last that is said: it will be cut before its end.
    truncated: bool,
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
        // Before the watch is among the open ones: who sees it there may compact what it has not read.
        let cursor = options
            .version
            .filter(|version| *version != 0 && !options.initial_events)
            .map(|version| {
                source
                    .store
                    .cursor(resource, version)
                    .map_err(|_| expired(&source.store, version))
            });
        let mut watch = Self {
            follower: source.cache.follow(),
            deadline: now + options.timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            place: source.watches.enter(resource),
            source,
            resource,
            filter,
            options,
            cursor: None,
            ready: VecDeque::new(),
            ended: false,
            truncated: false,
            bookmarks,
        };
        match cursor {
            Some(Ok(cursor)) => watch.cursor = Some(cursor),
            Some(Err(refusal)) => watch.say_refusal(refusal),
            None => {}
        }
        watch
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
            if self.truncated {
                pending::<()>().await;
            }
            if self.cursor.is_none() {
                if let Err(refusal) = self.begin().await {
                    self.say_refusal(refusal);
                }
                continue;
            }
            // In this order: a command that was given before a change was written is here when the change is.
            let version = self.source.cache.version();
            if let Some(order) = self.place.pending_order() {
                self.obey(order).await;
                continue;
            }
            self.catch_up(version);
            if self.ready.is_empty() {
                self.wait().await;
            }
        }
    }

    /// Begins with the state there is, once the cache has it.
    async fn begin(&mut self) -> Result<(), Refusal> {
        let version = match self.options.version {
            Some(0) => self.source.cache.version(),
            Some(version) => version,
            None => self.source.store.version(),
        };
        self.source.cache.fresh(version).await?;
        let version = self.source.cache.version();
        let store = &self.source.store;
        let cursor = store.cursor(self.resource, version);
        let objects = store.snapshot(self.resource, version);
        let (Ok(cursor), Ok(objects)) = (cursor, objects) else {
            return Err(expired(store, version));
        };
        self.cursor = Some(cursor);
        for object in objects.values().filter(|object| self.filter.takes(object)) {
            self.ready.push_back(event("ADDED", object));
        }
        if self.options.initial_events && self.options.bookmarks {
            self.ready
                .push_back(bookmark(self.resource, version, Some(INITIAL_EVENTS_END)));
        }
        Ok(())
    }

    /// Makes events of what happened up to a version.
    fn catch_up(&mut self, version: u64) {
        let changes = self.cursor.as_mut().map(|cursor| cursor.read(version));
        for change in changes.into_iter().flatten() {
            self.ready.extend(change_event(&self.filter, &change));
        }
    }

    /// Waits for something to do, and does it unless it is to catch up.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.follower.moved() => {}
            () = sleep_until(self.deadline) => self.ended = true,
            () = tick(&mut self.bookmarks) => {
                self.mark();
            }
            order = self.place.order() => self.obey(order).await,
        }
    }

    async fn obey(&mut self, order: Order) {
        self.catch_up(order.version);
        match order.command {
            Command::Bookmark => {
                if self.options.bookmarks {
                    self.mark();
                }
            }
            Command::Say(bytes) => self.ready.push_back(bytes),
            Command::Cut(Cut::End) => self.ended = true,
            Command::Cut(Cut::Truncate) => {
                // The next write goes out by half, and nothing may follow this chunk in it.
                self.truncated = true;
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

    /// A bookmark where the watch is; not where the server is not yet.
    fn mark(&mut self) {
        if let Some(cursor) = &self.cursor
            && cursor.version() <= self.source.cache.version()
        {
            self.ready
                .push_back(bookmark(self.resource, cursor.version(), None));
        }
    }

    /// A refusal of a watch is an event, over HTTP 200, and its end.
    fn say_refusal(&mut self, refusal: Refusal) {
        self.ready
            .push_back(event("ERROR", &refusal.status.unwrap_or_default()));
        self.ended = true;
    }
}

fn expired(store: &Store, version: u64) -> Refusal {
    let compacted = store.compacted();
    Refusal::expired(format!("too old resource version: {version} ({compacted})"))
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
