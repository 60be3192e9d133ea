//! The watches that are open, and what a test does to them.
//!
//! Must not know: what a watch delivers of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::resource::Resource;

/// How a running watch is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In order, as at its `timeoutSeconds`.
    End,
    /// In the middle of an event, and of a chunk: the connection is closed (FIN).
    Truncate,
    /// The connection is reset (RST).
    Reset,
}

/// What a test has a running watch do.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Bookmark,
    Say(Bytes),
    Cut(Cut),
}

/// A command, and the version whose changes come before it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub command: Command,
    pub version: u64,
}

/// The open watches of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Watches {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: BTreeMap<u64, (Resource, mpsc::UnboundedSender<Order>)>,
}

/// A watch's place among the open ones, where orders reach it; given up on drop.
#[derive(Debug)]
pub(super) struct Place {
    watches: Watches,
    id: u64,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Watches {
    pub(super) fn enter(&self, resource: Resource) -> Place {
        let (sender, orders) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        inner.last += 1;
        let id = inner.last;
        inner.open.insert(id, (resource, sender));
        Place {
            watches: self.clone(),
            id,
            orders,
        }
    }

    pub(super) fn count(&self, resource: Option<Resource>) -> usize {
        self.inner()
            .open
            .values()
            .filter(|(of, _)| resource.is_none_or(|resource| resource == *of))
            .count()
    }

    /// Gives an order to the open watches of a resource, or to all; says to how many.
    pub(super) fn send(&self, resource: Option<Resource>, order: &Order) -> usize {
        self.inner()
            .open
            .values()
            .filter(|(of, _)| resource.is_none_or(|resource| resource == *of))
            .filter(|(_, watch)| watch.send(order.clone()).is_ok())
            .count()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// An order that has been given.
    pub(super) fn pending_order(&mut self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// The next order; there may be none for ever.
    pub(super) async fn order(&mut self) -> Order {
        match self.orders.recv().await {
            Some(order) => order,
            // The sender is among the open watches for as long as this place is.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watches.inner().open.remove(&self.id);
    }
}
