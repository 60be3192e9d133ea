//! A server's watch cache: how far behind the store it is.
//!
//! Must not know: what is in it; readers ask the store for the state at the cache's version.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::store::Store;

/// How long the API server has a request wait for its cache to become fresh enough.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Cache {
    store: Store,
    patience: Duration,
    /// The version it stands still at.
    frozen: watch::Sender<Option<u64>>,
}

/// Waits for the cache to move; made before looking at the cache, so that no move is missed.
#[derive(Debug)]
pub(super) struct Follower {
    version: watch::Receiver<u64>,
    frozen: watch::Receiver<Option<u64>>,
}

impl Cache {
    pub(super) fn new(store: Store, patience: Duration) -> Self {
        Self {
            store,
            patience,
            frozen: watch::Sender::new(None),
        }
    }

    /// The version of what it holds.
    pub(super) fn version(&self) -> u64 {
        let version = self.store.version();
        self.frozen.borrow().map_or(version, |frozen| frozen.min(version))
    }

    pub(super) fn freeze(&self) {
        let version = self.version();
        self.frozen.send_replace(Some(version));
    }

    pub(super) fn thaw(&self) {
        self.frozen.send_replace(None);
    }

    pub(super) fn follow(&self) -> Follower {
        Follower {
            version: self.store.follow(),
            frozen: self.frozen.subscribe(),
        }
    }

    /// Waits until it holds `version`.
    pub(super) async fn fresh(&self, version: u64) -> Result<(), Refusal> {
        let mut follower = self.follow();
        let reached = async {
            while self.version() < version {
                follower.moved().await;
            }
        };
        timeout(self.patience, reached)
            .await
            .map_err(|_| Refusal::too_large_resource_version(version, self.version()))
    }
}

impl Follower {
    pub(super) async fn moved(&mut self) {
        // Neither sender goes away before the server does.
        let _ = tokio::select! {
            moved = self.version.changed() => moved,
            moved = self.frozen.changed() => moved,
        };
    }
}
