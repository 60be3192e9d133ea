//! The agent's pure parts, one after the other, over maps in memory.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_userspace::agent::cluster::{Cluster, Touched};
use lb_userspace::cli::view::raw::RawMap;
use lb_userspace::model::{ServiceKey, Update};
use lb_userspace::plan::{PlanConfig, ServicePlan, ThisNode, plan_service};
use lb_userspace::reconcile::fake::{FakeFlow, FakeMaps};
use lb_userspace::reconcile::maps::Capacities;
use lb_userspace::reconcile::{GRACE, Reconciler};
use lb_userspace::snapshot::Snapshot;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, timeout_at};

use super::text;

const ROOMY: Capacities = Capacities {
    frontends: 1000,
    records: 1000,
    slots: 1000,
    backends: 1000,
    services: 1000,
    source_ranges: 1000,
};

/// What the maps hold, without the indices, which are the reconciler's own business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Entries of `frontends`.
    pub frontends: usize,
    /// Entries of `names`.
    pub names: usize,
    /// Entries of `services`.
    pub records: usize,
    /// Entries of `slots`.
    pub slots: u64,
    /// Entries of `backends` that have an owner.
    pub backends: usize,
    /// Entries of `source_ranges`.
    pub source_ranges: usize,
    /// The bits that are set in `prefilter`.
    pub prefilter: BTreeSet<u32>,
}

/// A connection: what its flow's entry says of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    backend: u32,
    generation: u32,
    address: Addr,
}

/// A node that takes what a source tells.
#[derive(Debug)]
pub struct InMemory {
    node: String,
    host: ThisNode,
    cluster: Cluster,
    reconciler: Reconciler,
    maps: FakeMaps,
    is_complete: bool,
}

impl InMemory {
    /// A node with empty maps, called `node`.
    ///
    /// # Errors
    /// When the reconciler does not take empty maps.
    pub fn new(node: &str) -> Result<Self> {
        let now = Instant::now();
        let maps = FakeMaps::new(ROOMY, now, GRACE);
        Ok(Self {
            node: node.to_owned(),
            host: ThisNode::default(),
            cluster: Cluster::default(),
            reconciler: Reconciler::restore(&maps, GRACE, now)?,
            maps,
            is_complete: false,
        })
    }

    /// Takes a batch in, and brings it about; before the first lists are complete nothing is written (S11).
    ///
    /// # Errors
    /// When a Service cannot be brought about.
    pub fn take(&mut self, updates: Vec<Update>) -> Result<()> {
        let mut touched = Touched::default();
        for update in updates {
            self.cluster.apply(update, &mut touched);
        }
        let host = self.host();
        if host != self.host {
            touched
                .services
                .extend(self.cluster.services().map(|service| service.key.clone()));
            self.host = host;
        }
        let plans = touched.services.into_iter().map(|key| {
            let plan = self.plan(&key);
            (key, plan)
        });
        let plans: Vec<_> = plans.collect();
        let now = self.maps.now;
        let mut report = self.reconciler.apply(&mut self.maps, now, plans);
        if self.cluster.is_complete() && !self.is_complete {
            self.is_complete = true;
            report = self.reconciler.inputs_complete(&mut self.maps, now);
        }
        for (service, report) in report.services {
            report.outcome.with_context(|| format!("Service {service}"))?;
        }
        self.collect()
    }

    /// Whether the source has told everything there was at the start.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What the maps hold, as text.
    ///
    /// # Errors
    /// When the maps' entries do not fit together.
    pub fn lines(&self) -> Result<Vec<String>> {
        let snapshot = Snapshot {
            frontends: self.maps.frontends.clone().into_iter().collect(),
            services: self.maps.records.clone(),
            slots: self.maps.slots.clone(),
            backends: self.maps.backends.clone(),
            names: self.maps.names.clone(),
            source_ranges: self.maps.source_ranges.clone().into_iter().collect(),
            ..Snapshot::default()
        };
        text::lines(|map| {
            let map = RawMap::named(map).with_context(|| format!("no map {map}"))?;
            let records = map.records(&snapshot);
            let values = records.iter().map(serde_json::to_value);
            Ok(values.collect::<Result<Vec<Value>, _>>()?)
        })
    }

    /// How many entries each map holds.
    #[must_use]
    pub fn held(&self) -> Held {
        let maps = &self.maps;
        Held {
            frontends: maps.frontends.len(),
            names: maps.names.len(),
            records: maps.records.len(),
            slots: self.reconciler.usage(maps).slots,
            backends: maps
                .backends
                .values()
                .filter(|backend| backend.service != 0)
                .count(),
            source_ranges: maps.source_ranges.len(),
            prefilter: maps.prefilter.clone(),
        }
    }

    /// Has a connection begin to every backend that is alive.
    pub fn connect(&mut self) -> Vec<Connection> {
        let alive = |backend: &&Backend| backend.service != 0 && backend.generation.is_multiple_of(2);
        let backends = self.maps.backends.iter().filter(|(_, backend)| alive(backend));
        let connections: Vec<Connection> = backends
            .map(|(&index, backend)| Connection {
                backend: index,
                generation: backend.generation,
                address: backend.addr,
            })
            .collect();
        let flows = connections.iter().map(|connection| FakeFlow {
            backend: connection.backend,
            addresses: [connection.address; 2],
        });
        self.maps.flows.extend(flows);
        connections
    }

    /// Whether the flow of a connection is good: it is as long as its backend's generation is its own.
    #[must_use]
    pub fn lives(&self, connection: &Connection) -> bool {
        let backend = self.maps.backends.get(&connection.backend);
        backend.is_some_and(|backend| {
            backend.generation == connection.generation && backend.addr == connection.address
        })
    }

    /// Ends every connection, and frees what was kept for them.
    ///
    /// # Errors
    /// When something is kept all the same.
    pub fn disconnect(&mut self) -> Result<()> {
        self.maps.flows.clear();
        self.collect()
    }

    /// Takes batches until `reached` has nothing to object to, once the source has told everything there was at the start.
    ///
    /// # Errors
    /// When that is not so within `limit` (with the objection), when the source ends, or as [`InMemory::take`].
    pub async fn follow(
        &mut self,
        updates: &mut mpsc::Receiver<Vec<Update>>,
        limit: Duration,
        reached: impl Fn(&Self) -> Result<(), String>,
    ) -> Result<()> {
        let deadline = Deadline::now() + limit;
        loop {
            let objection = match reached(self) {
                Ok(()) if self.is_complete => return Ok(()),
                Ok(()) => "the first lists are not complete".to_owned(),
                Err(objection) => objection,
            };
            let batch = timeout_at(deadline, updates.recv())
                .await
                .with_context(|| format!("not within {limit:?}: {objection}"))?;
            self.take(batch.context("the source ended")?)?;
        }
    }

    fn host(&self) -> ThisNode {
        let object = self.cluster.node(&self.node);
        ThisNode {
            name: self.node.clone(),
            zone: object.and_then(|node| node.zone.clone()),
            addresses: object
                .map(|node| node.internal_ips.iter().copied().collect())
                .unwrap_or_default(),
        }
    }

    fn plan(&self, key: &ServiceKey) -> Option<ServicePlan> {
        let service = self.cluster.service(key)?;
        let slices = self.cluster.slices_of(key);
        Some(plan_service(service, &slices, &self.host, &PlanConfig::default()))
    }

    /// Lets the grace of everything that was let go of pass, and frees it.
    fn collect(&mut self) -> Result<()> {
        self.maps.now += GRACE;
        let now = self.maps.now;
        self.reconciler.collect(&mut self.maps, now)?;
        ensure!(
            !self.reconciler.has_idle() || !self.maps.flows.is_empty(),
            "entries that nothing uses are kept"
        );
        Ok(())
    }
}
