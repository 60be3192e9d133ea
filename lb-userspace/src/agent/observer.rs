//! What others see of the agent's work: health, Services' health checks, metrics.
//!
//! Owns: what each step of a round means to them. Must not know: maps, how anything is served.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::dataplane::Sizes;
use crate::health::{Check, ServiceChecks, SharedHealth};
use crate::metrics::{self, AgentMetrics, Tally};
use crate::model::{EndpointSlice, IpFamily, Node, Service, ServiceKey, Update};
use crate::plan::{ServicePlan, ThisNode, local_endpoints};
use crate::reconcile::Usage;
use crate::source::events::EventSender;

/// The agent's work as it shows.
pub(super) struct Observer {
    health: SharedHealth,
    metrics: Arc<AgentMetrics>,
    checks: ServiceChecks,
    events: EventSender,
    /// Room in the maps.
    sizes: Sizes,
    /// Whether the source must know this node (S41): a directory need not.
    needs_node: bool,
    triggers: Triggers,
    tally: Tally,
    /// Health checks to be shown when what they tell of is in the kernel.
    planned_checks: BTreeMap<ServiceKey, Option<Check>>,
    events_dropped: u64,
}

/// A round that is over.
pub(super) struct Round<'a> {
    /// How long it took; `None` when there was nothing to do.
    pub(super) took: Option<Duration>,
    /// Services that failed in it.
    pub(super) failures: usize,
    /// Services that are not as they should be.
    pub(super) failed: &'a BTreeSet<ServiceKey>,
    /// Families in which something waits to be tried again.
    pub(super) unapplied: BTreeSet<IpFamily>,
    /// How full the maps are.
    pub(super) usage: Usage,
}

impl Observer {
    /// Shows work through these. Needs a tokio runtime.
    pub(super) fn new(
        health: SharedHealth,
        metrics: Arc<AgentMetrics>,
        events: EventSender,
        sizes: Sizes,
        needs_node: bool,
    ) -> Self {
        Self {
            checks: ServiceChecks::start(health.clone(), events.clone()),
            health,
            metrics,
            events,
            sizes,
            needs_node,
            triggers: Triggers::new(SystemTime::now()),
            tally: Tally::default(),
            planned_checks: BTreeMap::new(),
            events_dropped: 0,
        }
    }

    /// A round begins: from now on it is late when it does not end.
    pub(super) fn round_begins(&self) {
        self.health.waits();
    }

    /// Nothing can be done before the first lists are in; an API server that does not answer makes nobody unhealthy.
    pub(super) fn waits_for_lists(&self) {
        self.health.waits_no_more();
    }

    /// The source told of changes.
    pub(super) fn hears(&mut self, updates: &[Update]) {
        let count = |is: fn(&Update) -> bool| updates.iter().filter(|update| is(update)).count();
        let services =
            count(|update| matches!(update, Update::ServiceApplied(_) | Update::ServiceDeleted(_)));
        let slices = count(|update| matches!(update, Update::SliceApplied(_) | Update::SliceDeleted(_)));
        if services + slices > 0 {
            self.metrics.queued(SystemTime::now(), services, slices);
        }
        for update in updates {
            if let Update::SliceApplied(slice) = update {
                self.triggers.note(slice);
            }
        }
    }

    /// The addresses that serve nodePorts.
    pub(super) fn serves_at(&self, addresses: BTreeSet<IpAddr>) {
        self.checks.set_addresses(addresses);
    }

    /// A Service was planned anew.
    pub(super) fn planned(
        &mut self,
        service: &Service,
        slices: &[&EndpointSlice],
        node: &ThisNode,
        plan: &ServicePlan,
    ) {
        self.tally.renew(&service.key, Some(plan));
        let port = service.health_check_node_port.filter(|_| !service.excluded);
        let check = port.map(|port| Check {
            port,
            uid: service.uid.clone(),
            local_endpoints: local_endpoints(service, slices, node),
        });
        self.planned_checks.insert(service.key.clone(), check);
    }

    /// A Service is gone.
    pub(super) fn gone(&mut self, service: &ServiceKey) {
        self.tally.renew(service, None);
        self.planned_checks.insert(service.clone(), None);
    }

    /// A round is over; `node` is this node's object.
    pub(super) fn round_ends(&mut self, round: &Round, node: Option<&Node>) {
        let now = SystemTime::now();
        for (service, check) in std::mem::take(&mut self.planned_checks) {
            self.checks.set(&service, check);
        }
        self.health.set_node_eligible(is_eligible(node, self.needs_node));
        self.health.applied(|family| round.unapplied.contains(&family));
        for (family, triggered) in self.triggers.take(round.failed) {
            self.metrics.programmed(family, triggered, now);
        }
        self.metrics.synced(&metrics::Sync {
            took: round.took,
            at: now,
            failures: round.failures,
            failed: round.failed.len(),
            in_force: round.unapplied.is_empty(),
        });
        self.metrics.tallied(&self.tally);
        self.metrics.usage(round.usage, &self.sizes);
        let dropped = self.events.dropped();
        self.metrics
            .events_dropped(dropped - std::mem::replace(&mut self.events_dropped, dropped));
    }
}

/// Whether load balancers may choose this node (S41), once the first lists are in.
fn is_eligible(node: Option<&Node>, needs_node: bool) -> bool {
    node.map_or(!needs_node, |node| !node.leaving)
}

/// When the changes happened that are on their way into the kernel.
struct Triggers {
    /// Older changes were carried out by somebody else, or nobody knows when.
    since: SystemTime,
    waiting: Vec<(ServiceKey, IpFamily, SystemTime)>,
}

impl Triggers {
    fn new(since: SystemTime) -> Self {
        Self {
            since,
            waiting: Vec::new(),
        }
    }

    fn note(&mut self, slice: &EndpointSlice) {
        if let Some(triggered) = slice.triggered.filter(|triggered| *triggered > self.since) {
            self.waiting
                .push((slice.service.clone(), slice.family, triggered));
        }
    }

    /// Those that are in the kernel now. A Service that failed has no time to tell.
    fn take(&mut self, failed: &BTreeSet<ServiceKey>) -> Vec<(IpFamily, SystemTime)> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let done = waiting.filter(|(service, ..)| !failed.contains(service));
        done.map(|(_, family, triggered)| (family, triggered)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SliceKey;

    #[test]
    fn a_node_is_eligible_unless_it_is_leaving_or_should_be_known_and_is_not() {
        let node = |leaving| Node {
            name: "a".to_owned(),
            zone: None,
            internal_ips: Vec::new(),
            labels: BTreeMap::new(),
            leaving,
        };
        for (node, needs_node, expected) in [
            (Some(node(false)), true, true),
            (Some(node(true)), true, false),
            (None, true, false),
            (Some(node(false)), false, true),
            (Some(node(true)), false, false),
            (None, false, true),
        ] {
            assert_eq!(
                is_eligible(node.as_ref(), needs_node),
                expected,
                "{node:?} {needs_node}"
            );
        }
    }

    #[test]
    fn changes_count_when_they_happened_since_the_start_and_were_carried_out() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let slice = |service: &str, triggered: Option<u64>| EndpointSlice {
            key: SliceKey::new("shop", service),
            service: ServiceKey::new("shop", service),
            family: IpFamily::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
            triggered: triggered.map(at),
        };
        let mut triggers = Triggers::new(at(100));
        for (service, triggered) in [
            ("web", Some(90)),
            ("web", None),
            ("web", Some(110)),
            ("full", Some(120)),
        ] {
            triggers.note(&slice(service, triggered));
        }
        let failed = BTreeSet::from([ServiceKey::new("shop", "full")]);
        assert_eq!(triggers.take(&failed), [(IpFamily::V4, at(110))]);
        assert!(triggers.take(&BTreeSet::new()).is_empty(), "each counts once");
    }
}
