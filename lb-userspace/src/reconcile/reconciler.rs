//! The reconciler: plans in, ordered writes out.
//!
//! Owns: what every Service should have, who waits for room, and when writing may begin. Must not know: Kubernetes
//! objects, how a map is reached, the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_common::addr::Addr;
use lb_common::frontend::FrontendKey;

use crate::model::ServiceKey;
use crate::plan::{ServicePlan, ServicePortKey};

use super::claims::Claims;
use super::maps::{MapError, ServiceMaps};
use super::mirror::{Mirror, frontend_bits};
use super::op::{Op, Undo};
use super::report::{Report, ServiceError, ServiceReport, Usage};
use super::restore::restore;
use super::stage::Stage;

/// How long a program on another CPU may go on with what it read from a frontend or a record. They run for
/// microseconds, those of sockets can be preempted; a second is beyond any of it.
pub const GRACE: Duration = Duration::from_secs(1);

/// Makes the maps hold what the plans say.
#[derive(Debug)]
pub struct Reconciler {
    pub(super) mirror: Mirror,
    pub(super) grace: Duration,
    /// Whether everything that existed at the start is known (S11).
    pub(super) is_complete: bool,
    /// Whether those that failed are worth another try: something was freed since, or it was not for want of room.
    pub(super) retry_failed: bool,
    claims: Claims,
    desired: BTreeMap<ServiceKey, ServicePlan>,
    failed: BTreeSet<ServiceKey>,
    /// Frontends whose holder has let go of them; they are removed unless somebody takes them over first.
    let_go: BTreeSet<FrontendKey>,
    node_addresses: BTreeSet<Addr>,
}

impl Reconciler {
    /// Begins with what the maps hold: nothing the first time, all of the last agent's entries after a restart. What is
    /// found unreferenced is given the whole grace from `now` on.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn restore(maps: &impl ServiceMaps, grace: Duration, now: Instant) -> Result<Self, MapError> {
        Ok(Self {
            mirror: restore(maps, now)?,
            grace,
            is_complete: false,
            retry_failed: false,
            claims: Claims::default(),
            desired: BTreeMap::new(),
            failed: BTreeSet::new(),
            let_go: BTreeSet::new(),
            node_addresses: BTreeSet::new(),
        })
    }

    /// Takes new plans, `None` for a Service that is gone, and carries them out. Services that are in each other's way, or
    /// that there was no room for before, are looked at too.
    ///
    /// Before [`Self::inputs_complete`] plans are only noted: the maps stay as they are.
    pub fn apply(
        &mut self,
        maps: &mut impl ServiceMaps,
        now: Instant,
        changes: impl IntoIterator<Item = (ServiceKey, Option<ServicePlan>)>,
    ) -> Report {
        let mut touched = BTreeSet::new();
        for (service, plan) in changes {
            touched.extend(self.note(&service, plan));
            touched.insert(service);
        }
        if !self.is_complete {
            return Report::default();
        }
        if std::mem::take(&mut self.retry_failed) {
            touched.extend(std::mem::take(&mut self.failed));
        }
        self.carry_out(maps, now, touched)
    }

    /// Every Service that existed at the start has been given to [`Self::apply`]: brings all of them about, and removes
    /// what the maps hold of others.
    pub fn inputs_complete(&mut self, maps: &mut impl ServiceMaps, now: Instant) -> Report {
        self.is_complete = true;
        let held = self.mirror.ids.keys().map(|key| key.service.clone());
        let all = held.chain(self.desired.keys().cloned()).collect();
        // Looked at once more at the end, whoever holds them: also those that lead nowhere.
        self.let_go.extend(self.mirror.frontends.keys());
        self.carry_out(maps, now, all)
    }

    /// The addresses at which nodePorts are served: packets to them must get past the prefilter.
    ///
    /// # Errors
    /// The prefilter cannot be written; the addresses are then as before, and may be given again.
    pub fn set_node_addresses(
        &mut self,
        maps: &mut impl ServiceMaps,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), MapError> {
        let addresses: BTreeSet<Addr> = addresses.into_iter().map(Addr::from).collect();
        for address in addresses.difference(&self.node_addresses) {
            for bit in frontend_bits(*address) {
                if !self.mirror.prefilter.is_set(bit) {
                    maps.set_prefilter_bit(bit)?;
                    self.mirror.prefilter.set(bit);
                }
            }
        }
        for address in addresses.difference(&self.node_addresses) {
            self.mirror.prefilter.need_frontends(*address);
        }
        for address in self.node_addresses.difference(&addresses) {
            self.mirror.prefilter.need_frontends_no_more(*address);
        }
        self.node_addresses = addresses;
        Ok(())
    }

    /// The id of a service port, where it has one.
    #[must_use]
    pub fn id(&self, port: &ServicePortKey) -> Option<u32> {
        self.mirror.ids.get(port).copied()
    }

    /// The Services that are not as they should be.
    #[must_use]
    pub fn failed(&self) -> &BTreeSet<ServiceKey> {
        &self.failed
    }

    /// How much of the maps is taken.
    #[must_use]
    pub fn usage(&self, maps: &impl ServiceMaps) -> Usage {
        Usage {
            frontends: self.mirror.frontends.len(),
            records: self.mirror.taken.records.taken(),
            slots: u64::from(maps.capacities().slots) - self.mirror.taken.slots.free(),
            source_ranges: self.mirror.source_sets.entries(),
            backends: self.mirror.taken.backends.taken(),
            services: self.mirror.taken.ids.taken(),
        }
    }

    fn note(&mut self, service: &ServiceKey, plan: Option<ServicePlan>) -> BTreeSet<ServiceKey> {
        let old = match &plan {
            Some(plan) => self.desired.insert(service.clone(), plan.clone()),
            None => self.desired.remove(service),
        };
        self.claims.replace(service, old.as_ref(), plan.as_ref())
    }

    fn carry_out(
        &mut self,
        maps: &mut impl ServiceMaps,
        now: Instant,
        services: BTreeSet<ServiceKey>,
    ) -> Report {
        let mut report = Report::default();
        for service in services {
            let held = self.mirror.frontends.len();
            let outcome = self.bring_about(maps, now, &service);
            self.retry_failed |= self.mirror.frontends.len() < held;
            match &outcome {
                Ok(_) => {
                    self.failed.remove(&service);
                }
                Err(error) => {
                    self.retry_failed |= error.may_pass();
                    self.failed.insert(service.clone());
                }
            }
            let plan = self.desired.get(&service);
            let conflicts = plan.map(|plan| self.claims.conflicts(plan)).unwrap_or_default();
            report
                .services
                .insert(service, ServiceReport { outcome, conflicts });
        }
        self.remove_let_go(maps, now, &mut report);
        report
    }

    /// Brings one Service about, or leaves it as it was.
    fn bring_about(
        &mut self,
        maps: &mut impl ServiceMaps,
        now: Instant,
        service: &ServiceKey,
    ) -> Result<usize, ServiceError> {
        let mut stage = Stage::default();
        let plan = self.desired.get(service);
        let staged = stage
            .service(service, plan, &self.claims, &mut self.mirror)
            .and_then(|()| stage.fits(maps.capacities(), &self.mirror));
        let outcome = staged.and_then(|()| {
            let ops = stage.ops();
            carry_out_or_take_back(&ops, maps, &mut self.mirror, now).map(|()| ops.len())
        });
        stage.reserved.release(&mut self.mirror);
        if outcome.is_ok() {
            self.let_go.append(&mut stage.let_go);
        }
        outcome
    }

    /// Removes the frontends whose holder does not ask for them and that nobody else has taken over. A holder that cannot be
    /// rid of one is not as it should be, and tried again.
    fn remove_let_go(&mut self, maps: &mut impl ServiceMaps, now: Instant, report: &mut Report) {
        for frontend in std::mem::take(&mut self.let_go) {
            let holder = self.mirror.holder(&frontend).cloned();
            let is_wanted = holder.as_ref().is_some_and(|holder| {
                self.claims.is_claimed_by(&frontend, holder) || self.failed.contains(&holder.service)
            });
            if is_wanted || !self.mirror.frontends.contains_key(&frontend) {
                continue;
            }
            let removal = Op::DeleteFrontend(frontend).carry_out(maps, &mut self.mirror, now);
            self.retry_failed = true;
            match (removal, holder) {
                (Ok(()), _) => {}
                (Err(_), None) => {
                    self.let_go.insert(frontend);
                }
                (Err(cause), Some(holder)) => {
                    let rolled_back = false;
                    let entry = report.services.entry(holder.service.clone()).or_default();
                    entry.outcome = Err(ServiceError::Map { cause, rolled_back });
                    self.failed.insert(holder.service);
                }
            }
        }
    }
}

/// Carries writes out in order; at the first that fails, takes those before it back in reverse order.
fn carry_out_or_take_back(
    ops: &[Op],
    maps: &mut impl ServiceMaps,
    mirror: &mut Mirror,
    now: Instant,
) -> Result<(), ServiceError> {
    let mut undos: Vec<Undo> = Vec::new();
    for op in ops {
        let undo = op.undo(mirror);
        if let Err(cause) = op.carry_out(maps, mirror, now) {
            let mut rolled_back = true;
            for undo in undos.into_iter().rev() {
                rolled_back &= undo.carry_out(maps, mirror, now).is_ok();
            }
            return Err(ServiceError::Map { cause, rolled_back });
        }
        undos.extend(undo);
    }
    Ok(())
}
