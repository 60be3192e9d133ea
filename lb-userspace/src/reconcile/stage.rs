//! From the plan of one Service to the writes that bring it about.
//!
//! Owns: the order of writes. A reader on another CPU must never follow a reference into something that is not there
//! yet or not there any more, so they go from what is pointed at to what points: prefilter bits, names, backends, slots,
//! source ranges, records, and then the frontends, whose store switches readers over. What readers of the old records still use is
//! taken away only afterwards: first frontends that are gone, then list membership, epochs and generations of
//! backends. (The generation must move after the switch: before it, new flows would go on choosing the dead backend.)
//! Nothing that was pointed at is written over; what nothing points at any more is idle and freed later
//! ([`super::collect`]).
//!
//! Must not know: how writes are carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::backend::Backend;
use lb_common::frontend::FrontendKey;
use lb_common::layout::maps;
use lb_common::prefilter;
use lb_common::protocol;
use lb_common::service::{ALGORITHM_RANDOM, ServiceRecord, SlotRange, flags};

use crate::model::{Protocol, ServiceKey};
use crate::plan::{
    EmptyVerdict, EndpointList, PlannedBackend, PlannedList, PlannedRecord, PlannedServicePort, RecordRole,
    ServicePlan, ServicePortKey,
};

use super::claims::Claims;
use super::maps::{Capacities, MapError};
use super::mirror::{Mirror, PortEntry, backend_address, frontend_bits, is_node_port, slot_range};
use super::names::to_name;
use super::op::Op;
use super::report::ServiceError;
use super::settle::{self, Fate};
use super::source_sets;

/// The writes of one Service.
#[derive(Debug, Default)]
pub(super) struct Stage {
    bits: BTreeSet<u32>,
    names: Vec<Op>,
    backends: Vec<Op>,
    slots: Vec<Op>,
    source_ranges: Vec<Op>,
    records: Vec<Op>,
    switches: Vec<Op>,
    removals: Vec<Op>,
    afterwards: Vec<Op>,
    /// Frontends the Service lets go of, to be taken over by another port that asks for them.
    pub(super) let_go: BTreeSet<FrontendKey>,
    /// What was taken for them, to be given back where a write did not happen.
    pub(super) reserved: Reserved,
}

/// Indices and ranges taken for entries not written yet.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    ids: Vec<u32>,
    records: Vec<u32>,
    backends: Vec<u32>,
    slots: Vec<SlotRange>,
    source_sets: Vec<u32>,
}

impl Reserved {
    /// Gives back what did not get into the maps.
    pub(super) fn release(self, mirror: &mut Mirror) {
        for id in self.ids {
            if !mirror.ports.contains_key(&id) {
                mirror.taken.ids.release(id);
            }
        }
        for index in self.records {
            if !mirror.records.contains_key(&index) {
                mirror.taken.records.release(index);
            }
        }
        for index in self.backends {
            if !mirror.backends.contains_key(&index) {
                mirror.taken.backends.release(index);
            }
        }
        for set in self.source_sets {
            mirror.source_sets.release_unwritten(set);
        }
        for range in self.slots {
            match mirror.ranges.get(&range.offset) {
                None => mirror.taken.slots.release(range),
                Some(entry) if entry.records == 0 => mirror.free_range(range.offset),
                Some(_) => {}
            }
        }
    }
}

impl Stage {
    /// Adds what a Service needs. `plan` is `None` when it is gone.
    pub(super) fn service(
        &mut self,
        service: &ServiceKey,
        plan: Option<&ServicePlan>,
        claims: &Claims,
        mirror: &mut Mirror,
    ) -> Result<(), ServiceError> {
        let planned = plan.map_or(&[][..], |plan| &plan.ports);
        for port in planned {
            self.port(port, claims, mirror)?;
        }
        let planned: BTreeSet<&ServicePortKey> = planned.iter().map(|port| &port.key).collect();
        let mirror = &*mirror;
        for (key, entry) in ports_of(mirror, service) {
            if !planned.contains(key) {
                self.remove(entry, claims, mirror);
            }
        }
        Ok(())
    }

    /// Whether frontends and source ranges have room for what comes anew. All else is reserved while staging; without this look
    /// a Service too large would have its names and records written and taken back, again and again, in the way of smaller ones.
    pub(super) fn fits(&self, capacities: Capacities, mirror: &Mirror) -> Result<(), ServiceError> {
        let new = self.switches.iter().filter(|op| match op {
            Op::PutFrontend { key, .. } => !mirror.frontends.contains_key(key),
            _ => false,
        });
        if mirror.frontends.len() + new.count() > capacities.frontends as usize {
            return Err(full(maps::FRONTENDS));
        }
        if mirror.source_sets.entries() + self.source_ranges.len() > capacities.source_ranges as usize {
            return Err(full(maps::SOURCE_RANGES));
        }
        Ok(())
    }

    /// The writes in their order.
    pub(super) fn ops(&self) -> Vec<Op> {
        let bits = self.bits.iter().map(|&bit| Op::SetPrefilterBit(bit));
        let rest = [
            &self.names,
            &self.backends,
            &self.slots,
            &self.source_ranges,
            &self.records,
            &self.switches,
            &self.removals,
            &self.afterwards,
        ];
        bits.chain(rest.into_iter().flatten().cloned()).collect()
    }

    fn port(
        &mut self,
        port: &PlannedServicePort,
        claims: &Claims,
        mirror: &mut Mirror,
    ) -> Result<(), ServiceError> {
        let known = mirror.ids.get(&port.key).copied();
        // A frontend that is still held is kept up to date until the better claim takes it.
        let wanted: BTreeMap<FrontendKey, RecordRole> = port
            .frontends
            .iter()
            .filter(|(key, _)| {
                claims.winner(key) == Some(&port.key) || (known.is_some() && mirror.holder_id(key) == known)
            })
            .map(|(&key, &role)| (key, role))
            .collect();
        if wanted.is_empty() && known.is_none() {
            return Ok(());
        }
        let id = match known {
            Some(id) => id,
            None => self.name(&port.key, mirror)?,
        };
        let roles: BTreeSet<RecordRole> = wanted.values().copied().collect();
        let indices = self.backends(id, port, &roles, mirror)?;
        let mut builder = RecordBuilder {
            id,
            port,
            indices: &indices,
            ranges: BTreeMap::new(),
        };
        let mut records = BTreeMap::new();
        for role in roles {
            let record = builder.record(role, self, mirror)?;
            let index = self.record_index(id, record, mirror)?;
            records.insert(role, index);
        }
        for (key, role) in &wanted {
            if !is_node_port(key) {
                for bit in frontend_bits(key.addr) {
                    self.bit(bit, mirror);
                }
            }
            let record = records[role];
            if mirror.frontends.get(key) != Some(&record) {
                self.switches.push(Op::PutFrontend { key: *key, record });
            }
        }
        if let Some(entry) = mirror.ports.get(&id) {
            self.remove_frontends(entry, |key| wanted.contains_key(key), claims);
        }
        Ok(())
    }

    fn name(&mut self, key: &ServicePortKey, mirror: &mut Mirror) -> Result<u32, ServiceError> {
        let name = Box::new(to_name(key)?);
        let id = mirror.taken.ids.take().ok_or(full(maps::NAMES))?;
        self.reserved.ids.push(id);
        self.names.push(Op::ClearStats(id));
        let key = key.clone();
        self.names.push(Op::PutName { id, key, name });
        Ok(id)
    }

    /// Brings the backends of a port into both the old and the new lists before the switch, and out of the old ones after
    /// it. Returns their indices.
    fn backends(
        &mut self,
        id: u32,
        port: &PlannedServicePort,
        roles: &BTreeSet<RecordRole>,
        mirror: &mut Mirror,
    ) -> Result<BTreeMap<SocketAddr, u32>, ServiceError> {
        let mut indices = BTreeMap::new();
        let needed = needed_endpoints(port, roles);
        let fate = |address: &SocketAddr| Fate {
            listed: port.backends.get(address).copied(),
            endpoint: port.endpoints.get(address).copied(),
            protocol: port.key.protocol,
            others_serve: !port.backends.is_empty(),
        };
        let present = mirror.ports.get(&id).map(|entry| entry.backends.clone());
        for (address, index) in present.unwrap_or_default() {
            let present = mirror.backends[&index].backend;
            let before = match port.backends.get(&address) {
                Some(listed) => settle::before_switch(&present, *listed),
                None => present,
            };
            let after = settle::after_switch(&before, &fate(&address));
            self.backend_changes(index, &present, &before, &after);
            self.bit(prefilter::bit(present.addr), mirror);
            indices.insert(address, index);
        }
        for (address, listed) in &port.backends {
            if indices.contains_key(address) || !needed.contains(address) {
                continue;
            }
            let index = mirror.taken.backends.take().ok_or(full(maps::BACKENDS))?;
            self.reserved.backends.push(index);
            let new = new_backend(id, *address, *listed, &port.key);
            let taken = settle::taken(new, mirror.past_backends.get(&index));
            let backend = settle::after_switch(&settle::before_switch(&taken, *listed), &fate(address));
            self.bit(prefilter::bit(backend.addr), mirror);
            self.backends.push(Op::WriteBackend { index, backend });
            indices.insert(*address, index);
        }
        Ok(indices)
    }

    fn backend_changes(&mut self, index: u32, present: &Backend, before: &Backend, after: &Backend) {
        if before != present {
            self.backends.push(Op::WriteBackend {
                index,
                backend: *before,
            });
        }
        if after != before {
            self.afterwards.push(Op::WriteBackend {
                index,
                backend: *after,
            });
        }
    }

    /// The index of a record with this content: one the port has, or a new one.
    fn record_index(
        &mut self,
        id: u32,
        record: ServiceRecord,
        mirror: &mut Mirror,
    ) -> Result<u32, ServiceError> {
        let present = mirror.ports.get(&id).and_then(|entry| {
            let mut records = entry.records.iter().copied();
            records.find(|index| {
                let entry = &mirror.records[index];
                entry.sound && entry.record == record
            })
        });
        let staged = self.records.iter().find_map(|op| match op {
            Op::WriteRecord {
                index,
                record: staged,
            } if *staged == record => Some(*index),
            _ => None,
        });
        if let Some(index) = present.or(staged) {
            return Ok(index);
        }
        let index = mirror.taken.records.take().ok_or(full(maps::SERVICES))?;
        self.reserved.records.push(index);
        self.records.push(Op::WriteRecord { index, record });
        Ok(index)
    }

    /// Takes a service port that is no longer planned out of the frontends and lists. Its flows live on.
    fn remove(&mut self, entry: &PortEntry, claims: &Claims, mirror: &Mirror) {
        self.remove_frontends(entry, |_| false, claims);
        for index in entry.backends.values() {
            let present = mirror.backends[index].backend;
            let after = settle::out_of_lists(&present);
            self.backend_changes(*index, &present, &present, &after);
        }
    }

    /// Removes the frontends a port has and should not have. One that another port claims is left to be switched over.
    fn remove_frontends(&mut self, entry: &PortEntry, keep: impl Fn(&FrontendKey) -> bool, claims: &Claims) {
        for key in entry.frontends.iter().filter(|key| !keep(key)) {
            if claims.winner(key).is_some() {
                self.let_go.insert(*key);
            } else {
                self.removals.push(Op::DeleteFrontend(*key));
            }
        }
    }

    fn bit(&mut self, bit: u32, mirror: &Mirror) {
        if !mirror.prefilter.is_set(bit) {
            self.bits.insert(bit);
        }
    }
}

/// The service ports of a Service that the maps hold.
fn ports_of<'a>(
    mirror: &'a Mirror,
    service: &ServiceKey,
) -> impl Iterator<Item = (&'a ServicePortKey, &'a PortEntry)> {
    let first = ServicePortKey {
        service: service.clone(),
        port_name: String::new(),
        protocol: Protocol::Tcp,
        port: 0,
        family: crate::model::IpFamily::V4,
    };
    let service = service.clone();
    let ids = mirror
        .ids
        .range(first..)
        .take_while(move |(key, _)| key.service == service);
    ids.filter_map(|(key, id)| Some((key, mirror.ports.get(id)?)))
}

/// The endpoints of the lists that records of these roles have.
fn needed_endpoints(port: &PlannedServicePort, roles: &BTreeSet<RecordRole>) -> BTreeSet<SocketAddr> {
    let records = roles.iter().filter_map(|role| planned_record(port, *role));
    records
        .flat_map(|record| [&record.inside, &record.outside])
        .flat_map(|list| list.endpoints.iter().copied())
        .collect()
}

fn planned_record(port: &PlannedServicePort, role: RecordRole) -> Option<&PlannedRecord> {
    match role {
        RecordRole::Cluster => Some(&port.cluster),
        RecordRole::External | RecordRole::Restricted => port.external.as_ref(),
        RecordRole::UnknownPort => None,
    }
}

fn new_backend(id: u32, address: SocketAddr, listed: PlannedBackend, key: &ServicePortKey) -> Backend {
    let (addr, port) = backend_address(address);
    let proto = match key.protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => protocol::SCTP,
    };
    settle::before_switch(
        &Backend {
            addr,
            port,
            proto,
            service: id,
            ..Backend::default()
        },
        listed,
    )
}

/// Turns planned records of one port into the map's, finding or making the slot ranges they name.
struct RecordBuilder<'a> {
    id: u32,
    port: &'a PlannedServicePort,
    indices: &'a BTreeMap<SocketAddr, u32>,
    /// Ranges made already, by content.
    ranges: BTreeMap<Vec<u32>, SlotRange>,
}

impl RecordBuilder<'_> {
    fn record(
        &mut self,
        role: RecordRole,
        stage: &mut Stage,
        mirror: &mut Mirror,
    ) -> Result<ServiceRecord, ServiceError> {
        let mut record = ServiceRecord {
            service: self.id,
            algorithm: ALGORITHM_RANDOM,
            ..ServiceRecord::default()
        };
        let Some(planned) = planned_record(self.port, role) else {
            record.flags = flags::UNKNOWN_PORT;
            return Ok(record);
        };
        record.inside = self.range(&planned.inside, stage, mirror)?;
        record.outside = self.range(&planned.outside, stage, mirror)?;
        record.affinity_seconds = self.port.affinity_seconds;
        record.flags = record_flags(planned);
        if role == RecordRole::Restricted {
            record.sources = self.source_set(stage, mirror)?;
        }
        if role == RecordRole::Cluster {
            record.flags |= flags::CLUSTER_IP;
        }
        Ok(record)
    }

    /// The set of the port's source ranges: one it has, or a new one. A set that a record names is never changed.
    fn source_set(&self, stage: &mut Stage, mirror: &mut Mirror) -> Result<u32, ServiceError> {
        if let Some(set) = mirror.source_sets.find(self.id, &self.port.sources) {
            return Ok(set);
        }
        let set = mirror.source_sets.take().ok_or(full(maps::SOURCE_RANGES))?;
        stage.reserved.source_sets.push(set);
        let keys = source_sets::keys(set, &self.port.sources);
        stage.source_ranges.extend(keys.map(|key| Op::PutSourceRange {
            key,
            service: self.id,
        }));
        Ok(set)
    }

    fn range(
        &mut self,
        list: &PlannedList,
        stage: &mut Stage,
        mirror: &mut Mirror,
    ) -> Result<SlotRange, ServiceError> {
        let endpoints = list.endpoints.iter();
        let slots: Vec<u32> = endpoints
            .filter_map(|address| self.indices.get(address).copied())
            .collect();
        if slots.is_empty() {
            return Ok(SlotRange::default());
        }
        if let Some(range) = self.ranges.get(&slots) {
            return Ok(*range);
        }
        let present = mirror.ports.get(&self.id).and_then(|entry| {
            let mut offsets = entry.ranges.iter().copied();
            offsets.find(|offset| mirror.ranges[offset].slots == slots)
        });
        let range = match present {
            Some(offset) => slot_range(offset, &slots),
            None => {
                let len = slot_range(0, &slots).len;
                let range = mirror.taken.slots.take(len).ok_or(full(maps::SLOTS))?;
                stage.reserved.slots.push(range);
                stage.slots.push(Op::WriteSlots {
                    offset: range.offset,
                    service: self.id,
                    slots: slots.clone(),
                });
                range
            }
        };
        self.ranges.insert(slots, range);
        Ok(range)
    }
}

fn record_flags(record: &PlannedRecord) -> u32 {
    let bits = [
        (record.rewrite.pod, flags::REWRITE_POD),
        (record.rewrite.node, flags::REWRITE_NODE),
        (record.rewrite.outside, flags::REWRITE_OUTSIDE),
        (record.inside.when_empty == EmptyVerdict::Drop, flags::INSIDE_DROP),
        (
            record.outside.when_empty == EmptyVerdict::Drop,
            flags::OUTSIDE_DROP,
        ),
        (
            record.inside.list == EndpointList::Local,
            flags::INSIDE_LOCAL_LIST,
        ),
        (
            record.outside.list == EndpointList::Local,
            flags::OUTSIDE_LOCAL_LIST,
        ),
    ];
    bits.into_iter()
        .filter(|(set, _)| *set)
        .fold(0, |flags, (_, bit)| flags | bit)
}

fn full(map: &'static str) -> ServiceError {
    ServiceError::Map {
        cause: MapError::Full { map },
        rolled_back: true,
    }
}
