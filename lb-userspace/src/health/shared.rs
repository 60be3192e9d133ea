//! The health between the agent's loop, which writes it, and the servers, which read it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::{Health, Now};
use crate::model::IpFamily;

/// [`Health`] by the clock; clones share it.
#[derive(Clone, Debug)]
pub struct SharedHealth {
    health: Arc<Mutex<Health>>,
}

impl SharedHealth {
    /// See [`Health::new`].
    #[must_use]
    pub fn new(adopted: bool) -> Self {
        Self {
            health: Arc::new(Mutex::new(Health::new(adopted))),
        }
    }

    /// Changes of both families wait.
    pub fn waits(&self) {
        let now = Now::read();
        let mut health = self.lock();
        for family in IpFamily::ALL {
            health.waits(family, now);
        }
    }

    /// Nothing can be done yet about what waits (S11): that is nobody's failure.
    pub fn waits_no_more(&self) {
        let mut health = self.lock();
        for family in IpFamily::ALL {
            health.waits_no_more(family);
        }
    }

    /// All that waited is in force, except in the families that `failed` names.
    pub fn applied(&self, failed: impl Fn(IpFamily) -> bool) {
        let now = Now::read();
        let mut health = self.lock();
        for family in IpFamily::ALL.into_iter().filter(|family| !failed(*family)) {
            health.applied(family, now);
        }
    }

    /// See [`Health::set_node_eligible`].
    pub fn set_node_eligible(&self, eligible: bool) {
        self.lock().set_node_eligible(eligible);
    }

    /// Whether the proxy does its work now.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.lock().is_healthy(Now::read())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Health> {
        // Every write leaves it whole.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
