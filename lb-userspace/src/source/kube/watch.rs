//! One watch: lists a resource, follows it, lists it again when it has to; for months.
//!
//! Owns: the order of request, answer, consequence, wait. The decisions are made elsewhere: what to ask for by
//! [`position`](super::position), what follows from an answer by [`known`](super::known), how long to wait by
//! [`pace`](super::pace). Must not know: what the objects mean.

use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::access::{Recovery, ServerId, Servers};
use super::decode::{self, Event};
use super::failure::{Failure, Refusal, Setback, Trouble};
use super::gate::Delivery;
use super::known::{Consequences, Known, Listing};
use super::lines::Lines;
use super::list::{SILENCE, list};
use super::pace::Pace;
use super::position::{Ask, Older, Position};
use super::resource::Resource;
use super::trouble::Troubles;
use super::wire;
use crate::model::Update;
use crate::source::events::{EventSender, Reason};

/// How long a stream is asked to last, so that the streams of many nodes do not end together.
const SECONDS: std::ops::RangeInclusive<u32> = 200..=290;
/// A stream that has not ended so long after it should have is dead.
const GRACE: Duration = Duration::from_secs(30);
/// Watches begin no faster than this, whatever ends them.
const SHORTEST: Duration = Duration::from_secs(1);
/// A server sends a bookmark each minute. A watch that had none for so long may be one of a version that the server has not
/// reached, and then it will be silent until it has, and miss what was before.
const BOOKMARKS: Duration = Duration::from_secs(150);
/// The same for watches that were cut one after the other before a bookmark was due.
const QUIET: Duration = Duration::from_secs(600);
/// A watch that lasted so long had nothing wrong with it: what breaks it off is no reason to wait ever longer.
const LASTING: Duration = Duration::from_secs(10);
/// Updates of one delivery, when there are more ready.
const BATCH: usize = 256;

/// Follows one resource.
#[derive(Debug)]
pub(super) struct Watch {
    servers: Servers,
    /// The server that was asked last.
    server: ServerId,
    /// Whether another watch has got through since then.
    recovery: Recovery,
    known: Known,
    position: Position,
    pace: Pace,
    troubles: Troubles,
    events: EventSender,
    deliveries: mpsc::Sender<Delivery>,
    /// What is to be delivered next.
    batch: Vec<Update>,
    /// A list was completed that was not told of.
    listed: bool,
    /// How long watches have lasted that had nothing to tell, in a row.
    quiet: Duration,
}

impl Watch {
    pub(super) fn new(
        resource: Resource,
        servers: Servers,
        events: EventSender,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Self {
        Self {
            server: servers.current().0,
            recovery: servers.recovery(),
            servers,
            troubles: Troubles::new(&resource),
            known: Known::new(resource),
            position: Position::new(),
            pace: Pace::default(),
            events,
            deliveries,
            batch: Vec::new(),
            listed: false,
            quiet: Duration::ZERO,
        }
    }

    /// Ends when nobody takes what is delivered.
    pub(super) async fn run(mut self) {
        let deliveries = self.deliveries.clone();
        tokio::select! {
            () = deliveries.closed() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            let (server, client) = self.servers.current();
            self.server = server;
            self.recovery = self.servers.recovery();
            let ask = self.position.ask();
            let end = match &ask {
                Ask::Stream { .. } | Ask::Watch { .. } => self.stream(&client, &ask).await,
                Ask::Cache { .. } | Ask::Quorum { .. } => self.list(&client, &ask).await,
            };
            self.deliver().await;
            match end {
                Ok(wait) => sleep(wait).await,
                Err(failure @ Failure::Connection(_)) => {
                    let wait = self.set_back(&ask, &failure);
                    // A Service without its slices would be refused: when one watch is through, all are.
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = self.recovery.wait() => sleep(self.pace.next_server()).await,
                    }
                }
                Err(failure) => sleep(self.set_back(&ask, &failure)).await,
            }
        }
    }

    /// A watch, with everything there is before it or without. Returns how long to wait before the next request.
    async fn stream(&mut self, client: &Client, ask: &Ask) -> Result<Duration, Failure> {
        let mut listing = matches!(ask, Ask::Stream { .. }).then(Listing::default);
        let seconds = rand::random_range(SECONDS);
        let request = wire::request(self.known.resource(), ask, seconds, None);
        let mut lines = Lines::new(wire::send(client, request).await?);
        self.answered();
        let began = Instant::now();
        let end = began + Duration::from_secs(seconds.into()) + GRACE;
        let mut news = false;
        loop {
            let line = match lines.next().now_or_never() {
                Some(line) if self.batch.len() < BATCH => line,
                waiting => {
                    self.deliver().await;
                    let silence = Instant::now() + SILENCE;
                    let patience = if listing.is_some() { end.min(silence) } else { end };
                    match waiting {
                        Some(line) => line,
                        None => timeout_at(patience, lines.next())
                            .await
                            .unwrap_or_else(|_| Err(Failure::Connection("nothing more came".to_owned()))),
                    }
                }
            };
            let line = match (line, &listing) {
                (Ok(Some(line)), _) => line,
                (Ok(None), Some(_)) => return Err(Failure::Incomplete("it ended".to_owned())),
                (Ok(None), None) => return self.ended(news, began.elapsed()),
                (Err(Failure::Connection(words)), None) => return self.cut(news, began.elapsed(), words),
                (Err(Failure::Connection(words)), Some(_)) => return Err(Failure::Incomplete(words)),
                (Err(failure), _) => return Err(failure),
            };
            let event = decode::event(&line).map_err(|error| Failure::garbage(&error, &line))?;
            if let Some(collected) = &mut listing {
                match event {
                    Event::Bookmark {
                        version,
                        initial_events_end: true,
                    } => {
                        let complete = listing.take().unwrap_or_default();
                        self.complete(complete, version)?;
                    }
                    Event::Bookmark { .. } => {}
                    Event::Applied(identity) => {
                        self.known
                            .collect(collected, identity, |resource| resource.read_event(&line));
                    }
                    Event::Deleted(identity) => self.known.uncollect(collected, &identity),
                    Event::Error(status) => return Err(Failure::Refusal(Refusal::of_status(&status))),
                }
            } else {
                self.happened(event, &line)?;
            }
            news = true;
        }
    }

    /// A list. Returns how long to wait before the next request.
    async fn list(&mut self, client: &Client, ask: &Ask) -> Result<Duration, Failure> {
        if matches!(ask, Ask::Quorum { .. }) {
            // The truth may be that of another history, in which equal versions mean nothing.
            self.known.distrust();
        }
        let (listing, version) = list(client, &self.known, ask, || {}).await?;
        self.complete(listing, version)?;
        Ok(Duration::ZERO)
    }

    /// A list has come to its end.
    fn complete(&mut self, listing: Listing, version: String) -> Result<(), Failure> {
        self.position
            .admits(&version)
            .map_err(|older| Failure::Outdated(words(&older)))?;
        let consequences = self.known.listed(listing);
        self.follow_up(consequences);
        self.listed = true;
        self.pace.worked();
        self.worked();
        if self.position.listed(version) {
            tracing::warn!(
                resource = self.known.resource().plural,
                "the cluster's history is shorter than it was, as after a restored backup"
            );
        }
        Ok(())
    }

    /// An event of a running watch.
    fn happened(&mut self, event: Event, line: &[u8]) -> Result<(), Failure> {
        let version = match &event {
            Event::Applied(identity) | Event::Deleted(identity) => &identity.resource_version,
            Event::Bookmark { version, .. } => version,
            Event::Error(status) => return Err(Failure::Refusal(Refusal::of_status(status))),
        };
        self.position
            .advance(version)
            .map_err(|older| Failure::Backwards(words(&older)))?;
        self.pace.progress();
        self.worked();
        let consequences = match event {
            Event::Applied(identity) => self.known.applied(identity, |resource| resource.read_event(line)),
            Event::Deleted(identity) => self.known.deleted(&identity),
            Event::Bookmark { .. } | Event::Error(_) => return Ok(()),
        };
        self.follow_up(consequences);
        Ok(())
    }

    /// The server ended the watch, as it does after the time it was given, and when it goes.
    fn ended(&mut self, news: bool, lasted: Duration) -> Result<Duration, Failure> {
        if news {
            return Ok(SHORTEST.saturating_sub(lasted));
        }
        if lasted < SHORTEST {
            return Err(Failure::Mute);
        }
        self.said_nothing(lasted);
        Ok(Duration::ZERO)
    }

    /// The watch broke off.
    fn cut(&mut self, news: bool, lasted: Duration, words: String) -> Result<Duration, Failure> {
        if !news {
            self.said_nothing(lasted);
        }
        if lasted < LASTING {
            return Err(Failure::Connection(words));
        }
        self.pace.worked();
        Err(Failure::Cut(words))
    }

    /// A watch had nothing to tell. Everything is listed again when that has been so for long.
    fn said_nothing(&mut self, lasted: Duration) {
        self.quiet += lasted;
        if lasted >= BOOKMARKS || self.quiet >= QUIET {
            self.quiet = Duration::ZERO;
            self.position.list_again();
        }
    }

    /// Prepares for the next attempt. Returns how long to wait for it.
    fn set_back(&mut self, ask: &Ask, failure: &Failure) -> Duration {
        let setback = failure.setback();
        // A no to the last way of asking is a no to all.
        let all_closed = setback == Setback::Closed && matches!(ask, Ask::Quorum { .. });
        let trouble = failure.trouble().or(all_closed.then_some(Trouble::Failing));
        let turned = self.position.setback(setback);
        if turned {
            self.pace.turned();
        }
        match trouble {
            Some(trouble) => {
                let server = self.servers.name(self.server);
                self.troubles.begin(trouble, ask, server, failure);
            }
            None => self.troubles.note(ask, failure, &self.position.ask()),
        }
        if (failure.is_the_servers() || all_closed) && !self.servers.failed(self.server) {
            return self.pace.next_server();
        }
        match turned && trouble.is_none() {
            true => self.pace.next_way(rand::random()),
            false => self.pace.failed(failure.retry_after(), rand::random()),
        }
    }

    /// Tells the other watches that a server is there; itself it need not be told.
    fn answered(&mut self) {
        self.servers.answered();
        self.recovery = self.servers.recovery();
    }

    fn worked(&mut self) {
        self.quiet = Duration::ZERO;
        self.answered();
        self.servers.worked(self.server);
        self.troubles.over();
    }

    fn follow_up(&mut self, consequences: Consequences) {
        self.batch.extend(consequences.updates);
        for remark in consequences.remarks {
            let (object, note) = (&remark.event.object, &remark.event.note);
            match (remark.event.reason, remark.kept) {
                (Reason::Refused, true) => {
                    tracing::warn!("{object}: refused: {note} (the last good version stays in force)");
                }
                (Reason::Refused, false) => tracing::warn!("{object}: refused: {note}"),
                _ => tracing::warn!("{object}: warning: {note}"),
            }
            // Without a name there is nobody to tell.
            if !object.name.is_empty() {
                self.events.send(remark.event);
            }
        }
    }

    async fn deliver(&mut self) {
        let listed = std::mem::take(&mut self.listed);
        if self.batch.is_empty() && !listed {
            return;
        }
        let delivery = Delivery {
            from: self.known.resource().which,
            updates: std::mem::take(&mut self.batch),
            listed,
        };
        // With nobody there any more the watch is about to end.
        let _ = self.deliveries.send(delivery).await;
    }
}

fn words(older: &Older) -> String {
    format!("version {} after {}", older.told, older.held)
}
