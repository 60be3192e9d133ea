//! From what is known to what is in the kernel.
//!
//! Owns: the order of a round: addresses, Services, devices; programs meet no packet before the entries they need are there.
//! Must not know: where events come from.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cluster::{Cluster, Touched};
use super::complaints::Complaints;
use super::devices::Devices;
use super::host::Host;
use super::observer::{Observer, Round};
use super::pace::Pace;
use super::settings;
use crate::config::Config;
use crate::dataplane::{Dataplane, KernelMaps, Reader};
use crate::model::{IpFamily, ObjectRef, ServiceKey, Update};
use crate::node::NodeState;
use crate::plan::{PlanConfig, ServicePlan, plan_service};
use crate::reconcile::maps::MapError;
use crate::reconcile::{Collected, GRACE, Reconciler, Report, ServiceError};
use crate::source::events::{EventSender, ObjectEvent, Reason};

/// What everybody waits for who starts an agent: all that existed at the start is in the kernel. Not a log line: it stays what
/// it is whatever the log level.
const READY: &str = "xvip: ready";

/// The agent's state, and the only writer of the kernel's.
pub(super) struct Sync {
    config: Config,
    plan_config: PlanConfig,
    node_name: String,
    cluster: Cluster,
    host: Host,
    dataplane: Dataplane,
    maps: KernelMaps,
    reconciler: Reconciler,
    devices: Devices,
    /// Services to plan anew.
    pending: BTreeSet<ServiceKey>,
    /// The host or its Node object changed since [`Self::host`] was made.
    host_changed: bool,
    /// The host's addresses are not in the maps yet.
    addresses_pending: bool,
    ready: bool,
    pace: Pace,
    complaints: Complaints<Subject>,
    events: EventSender,
    observer: Observer,
}

/// What a complaint is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// This node's devices and addresses.
    Host,
    /// Writing the node's addresses.
    Addresses,
    /// Freeing what nothing uses.
    Collection,
    /// How a Service is planned.
    Plan(ServiceKey),
    /// What became of a Service in the maps.
    Service(ServiceKey),
    /// The addresses a Service has to do without.
    Conflicts(ServiceKey),
}

impl Sync {
    /// Begins with what the maps hold; what owners of objects should hear goes to `events`, and what the work looks like to
    /// `observer`.
    ///
    /// # Errors
    /// The maps cannot be opened or read, or this node has no name.
    pub(super) fn new(
        config: Config,
        dataplane: Dataplane,
        events: EventSender,
        observer: Observer,
    ) -> Result<Self> {
        let maps = dataplane.service_maps()?;
        let reconciler = Reconciler::restore(&maps, GRACE, Instant::now())?;
        Ok(Self {
            plan_config: settings::plan(&config),
            node_name: config.node_name().context("cannot read this host's name")?,
            config,
            cluster: Cluster::default(),
            host: Host::default(),
            dataplane,
            maps,
            reconciler,
            devices: Devices::default(),
            pending: BTreeSet::new(),
            host_changed: true,
            addresses_pending: true,
            ready: false,
            pace: Pace::new(Instant::now()),
            complaints: Complaints::default(),
            events,
            observer,
        })
    }

    /// Takes in what the source tells.
    pub(super) fn take(&mut self, updates: Vec<Update>) {
        self.observer.round_begins();
        self.observer.hears(&updates);
        let mut touched = Touched::default();
        for update in updates {
            self.cluster.apply(update, &mut touched);
        }
        self.pending.append(&mut touched.services);
        self.host_changed |= touched.nodes.contains(&self.node_name);
    }

    /// Notes that the host's network changed.
    pub(super) fn host_changed(&mut self) {
        self.observer.round_begins();
        self.host_changed = true;
    }

    /// Brings about what is pending. Nothing is written before the source's first lists are in (S11).
    ///
    /// # Errors
    /// What an earlier agent left on devices cannot be looked at. Everything else that fails is logged and tried again.
    pub(super) fn bring_about(&mut self, network: &NodeState) -> Result<()> {
        if !self.cluster.is_complete() {
            self.observer.waits_for_lists();
            return Ok(());
        }
        let begun = Instant::now();
        if std::mem::take(&mut self.host_changed) {
            self.look_at_host(network);
        }
        if self.addresses_pending {
            self.write_addresses();
        }
        let report = self.sync_services();
        if !self.ready {
            let left = Reader::open(&self.config.bpffs)?.devices()?;
            Devices::adopt(
                &mut self.dataplane,
                left.into_iter().map(|(ifindex, _)| ifindex),
                &self.host.devices,
            )?;
        }
        let devices = self.devices.follow(&mut self.dataplane, &self.host.devices);
        let (services, writes) = self.report(&report);
        let worked = services > 0 || devices != super::devices::Change::default();
        if writes > 0 {
            self.pace.changed(Instant::now());
        }
        if worked {
            tracing::info!(
                services,
                writes,
                failed = self.reconciler.failed().len(),
                devices_attached = devices.attached,
                devices_detached = devices.detached,
                "synced"
            );
        }
        self.show(worked.then(|| begun.elapsed()), &report);
        if !std::mem::replace(&mut self.ready, true) {
            // Nobody may be reading; that is no reason to stop serving.
            let _ = writeln!(std::io::stderr(), "{READY}");
        }
        Ok(())
    }

    /// Frees what nothing uses any more, and tries again what there was no room for.
    pub(super) fn collect(&mut self) {
        self.observer.round_begins();
        if !self.reconciler.has_idle() || !self.pace.is_due(Instant::now()) {
            return;
        }
        let (freed, failure) = match self.reconciler.collect(&mut self.maps, Instant::now()) {
            Ok(collected) => {
                tracing::debug!(?collected, "looked for unused entries");
                (collected != Collected::default(), None)
            }
            Err(error) => (
                false,
                Some(format!("freeing unused entries: {error}; trying again")),
            ),
        };
        self.pace.looked(Instant::now(), freed);
        warn(self.complaints.renew(Subject::Collection, failure));
    }

    fn look_at_host(&mut self, network: &NodeState) {
        let object = self.cluster.node(&self.node_name);
        let host = Host::new(network, &self.config, &self.node_name, object);
        warn(self.complaints.renew(Subject::Host, host.warnings.clone()));
        if host.node != self.host.node {
            self.pending
                .extend(self.cluster.services().map(|service| service.key.clone()));
        }
        self.addresses_pending |= host.addresses != self.host.addresses;
        self.host = host;
        self.observer.serves_at(self.host.serving_addresses().collect());
    }

    fn write_addresses(&mut self) {
        let written = self
            .reconciler
            .set_node_addresses(&mut self.maps, self.host.serving_addresses())
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(self.dataplane.set_node_addrs(self.host.address_entries())?));
        self.addresses_pending = written.is_err();
        let failure = written
            .err()
            .map(|error| format!("this node's addresses: {error:#}; trying again"));
        warn(self.complaints.renew(Subject::Addresses, failure));
    }

    fn sync_services(&mut self) -> Report {
        let mut changes: Vec<(ServiceKey, Option<ServicePlan>)> = Vec::new();
        for key in std::mem::take(&mut self.pending) {
            let plan = self.plan(&key);
            let warnings = plan.iter().flat_map(|plan| &plan.warnings);
            let notes: Vec<String> = warnings.map(ToString::to_string).collect();
            self.tell(Subject::Plan(key.clone()), &key, Reason::PartIgnored, notes);
            changes.push((key, plan));
        }
        let now = Instant::now();
        let report = self.reconciler.apply(&mut self.maps, now, changes);
        if self.ready {
            report
        } else {
            self.reconciler.inputs_complete(&mut self.maps, now)
        }
    }

    fn plan(&mut self, key: &ServiceKey) -> Option<ServicePlan> {
        let Some(service) = self.cluster.service(key) else {
            self.observer.gone(key);
            return None;
        };
        let slices = self.cluster.slices_of(key);
        let plan = plan_service(service, &slices, &self.host.node, &self.plan_config);
        self.observer.planned(service, &slices, &self.host.node, &plan);
        Some(plan)
    }

    /// Lets others see what became of a round.
    fn show(&mut self, took: Option<Duration>, report: &Report) {
        let failures = report
            .services
            .values()
            .filter(|service| service.outcome.is_err());
        let round = Round {
            took,
            failures: failures.count(),
            failed: self.reconciler.failed(),
            unapplied: self.unapplied(),
            usage: self.reconciler.usage(&self.maps),
        };
        self.observer
            .round_ends(&round, self.cluster.node(&self.node_name));
    }

    /// The families in which something waits to be tried again.
    fn unapplied(&self) -> BTreeSet<IpFamily> {
        if self.addresses_pending || self.devices.incomplete() {
            return IpFamily::ALL.into();
        }
        let failed = self.reconciler.failed().iter();
        let families = failed.flat_map(|key| match self.cluster.service(key) {
            Some(service) => service.cluster_ips.iter().map(|ip| IpFamily::of(*ip)).collect(),
            None => IpFamily::ALL.to_vec(),
        });
        families.collect()
    }

    /// Logs what went wrong; counts Services and writes.
    fn report(&mut self, report: &Report) -> (usize, usize) {
        let mut writes = 0;
        for (key, service) in &report.services {
            let failure = match &service.outcome {
                Ok(count) => {
                    writes += count;
                    None
                }
                Err(error) => Some(format!(
                    "Service {key}: {error}; it stays as it was{}",
                    remedy(error)
                )),
            };
            warn(self.complaints.renew(Subject::Service(key.clone()), failure));
            let conflicts = service.conflicts.iter().map(ToString::to_string);
            self.tell(
                Subject::Conflicts(key.clone()),
                key,
                Reason::AddressConflict,
                conflicts,
            );
        }
        (report.services.len(), writes)
    }

    /// Logs what is new about a Service, and lets its owner know.
    fn tell(
        &mut self,
        subject: Subject,
        key: &ServiceKey,
        reason: Reason,
        notes: impl IntoIterator<Item = String>,
    ) {
        for note in self.complaints.renew(subject, notes) {
            tracing::warn!("Service {key}: {note}");
            if let Some(service) = self.cluster.service(key) {
                self.events.send(ObjectEvent {
                    object: ObjectRef::new("Service", &key.namespace, &key.name),
                    uid: service.uid.clone(),
                    reason,
                    note,
                });
            }
        }
    }
}

/// What to do about a failure.
fn remedy(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Map {
            cause: MapError::Full { .. },
            ..
        } => " until there is room (mapSizes in the configuration, after `xvip cleanup`)",
        _ => "",
    }
}

fn warn(lines: Vec<String>) {
    for line in lines {
        tracing::warn!("{line}");
    }
}
