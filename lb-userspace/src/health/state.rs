//! Whether what the cluster asks for is in force (S41).

use std::time::{Duration, Instant, SystemTime};

use crate::model::IpFamily;

/// A change that waits for longer makes the node unhealthy; kube-proxy's value.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// A moment by both clocks: intervals go by the one, answers show the other.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never set.
    pub monotonic: Instant,
    /// May be set.
    pub wall: SystemTime,
}

impl Now {
    /// This moment.
    #[must_use]
    pub fn read() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// The health of the node's proxy.
///
/// A family is healthy when its datapath was filled at least once, by this agent or the one before, and no change has waited
/// unapplied for over [`TIMEOUT`]. That nothing is heard of the API server makes nobody unhealthy.
#[derive(Clone, Debug)]
pub struct Health {
    families: [Family; 2],
    node_eligible: bool,
}

/// One family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// The datapath is not empty, or rightly so.
    filled: bool,
    last_updated: Option<SystemTime>,
    waiting_since: Option<Instant>,
}

impl Family {
    pub(super) fn last_updated(&self) -> Option<SystemTime> {
        self.last_updated
    }

    pub(super) fn is_healthy(&self, now: Instant) -> bool {
        let late = |since: Instant| now.saturating_duration_since(since) >= TIMEOUT;
        self.filled && !self.waiting_since.is_some_and(late)
    }
}

impl Health {
    /// The health at a start; `adopted` when an earlier agent left a datapath that goes on serving.
    #[must_use]
    pub fn new(adopted: bool) -> Self {
        let family = Family {
            filled: adopted,
            last_updated: None,
            waiting_since: None,
        };
        Self {
            families: [family; 2],
            node_eligible: true,
        }
    }

    /// A change waits to be applied. One that has waited before goes on doing so.
    pub fn waits(&mut self, family: IpFamily, now: Now) {
        self.family_mut(family).waiting_since.get_or_insert(now.monotonic);
    }

    /// Everything that was asked for is in the kernel.
    pub fn applied(&mut self, family: IpFamily, now: Now) {
        *self.family_mut(family) = Family {
            filled: true,
            last_updated: Some(now.wall),
            waiting_since: None,
        };
    }

    /// What waited needed nothing to be done.
    pub fn waits_no_more(&mut self, family: IpFamily) {
        self.family_mut(family).waiting_since = None;
    }

    /// Whether load balancers may choose the node: it is known, and not on its way out.
    pub fn set_node_eligible(&mut self, eligible: bool) {
        self.node_eligible = eligible;
    }

    /// Whether load balancers may choose the node.
    #[must_use]
    pub fn node_eligible(&self) -> bool {
        self.node_eligible
    }

    /// Whether the proxy does its work; the Node has no say.
    #[must_use]
    pub fn is_healthy(&self, now: Now) -> bool {
        self.families
            .iter()
            .all(|family| family.is_healthy(now.monotonic))
    }

    /// The families, with their names.
    pub(super) fn families(&self) -> impl Iterator<Item = (IpFamily, &Family)> {
        IpFamily::ALL.into_iter().zip(&self.families)
    }

    fn family_mut(&mut self, family: IpFamily) -> &mut Family {
        match family {
            IpFamily::V4 => &mut self.families[0],
            IpFamily::V6 => &mut self.families[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IpFamily::{V4, V6};

    fn clock() -> impl Fn(u64) -> Now {
        let start = Now::read();
        move |seconds| Now {
            monotonic: start.monotonic + Duration::from_secs(seconds),
            wall: start.wall + Duration::from_secs(seconds),
        }
    }

    /// S41.
    #[test]
    fn over_an_empty_datapath_nobody_is_healthy_before_the_first_sync() {
        let at = clock();
        let mut health = Health::new(false);
        assert!(!health.is_healthy(at(0)));
        health.waits_no_more(V4);
        assert!(!health.is_healthy(at(0)), "nothing was done yet");
        health.applied(V4, at(1));
        assert!(!health.is_healthy(at(1)), "the other family is empty");
        health.applied(V6, at(1));
        assert!(health.is_healthy(at(1)));
        assert!(health.is_healthy(at(86_400)), "silence is no failure");
    }

    /// S41.
    #[test]
    fn over_an_adopted_datapath_everybody_is_healthy_at_once() {
        let at = clock();
        let health = Health::new(true);
        assert!(health.is_healthy(at(0)));
        assert!(
            health.is_healthy(at(86_400)),
            "the API server may be away for a day"
        );
    }

    /// S41.
    #[test]
    fn a_change_may_wait_for_a_minute_from_when_it_began_to() {
        let at = clock();
        let mut health = Health::new(true);
        health.waits(V6, at(10));
        health.waits(V6, at(50));
        assert!(health.is_healthy(at(69)));
        assert!(!health.is_healthy(at(70)), "the first has waited since 10");
        health.applied(V4, at(70));
        assert!(!health.is_healthy(at(70)), "that was the other family");
        health.applied(V6, at(80));
        assert!(health.is_healthy(at(80)));
        health.waits(V6, at(90));
        health.waits_no_more(V6);
        assert!(health.is_healthy(at(200)));
    }

    /// S41.
    #[test]
    fn the_node_has_no_say_in_whether_the_proxy_works() {
        let at = clock();
        let mut health = Health::new(true);
        health.set_node_eligible(false);
        assert!(health.is_healthy(at(0)));
        assert!(!health.node_eligible());
    }
}
