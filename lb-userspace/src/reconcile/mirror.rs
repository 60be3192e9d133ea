//! What the maps hold.
//!
//! Owns: a copy of the maps of Services that counts who refers to what: frontends to records, records to slot ranges,
//! slot ranges to backends, records to sets of source ranges, and frontends, backends and the node's addresses to prefilter bits. What nothing refers to
//! is idle, and may be freed.
//!
//! Must not know: what should be in the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::frontend::FrontendKey;
use lb_common::port::Port;
use lb_common::prefilter;
use lb_common::service::{ServiceRecord, SlotRange};

use crate::plan::ServicePortKey;

use super::index::IndexAllocator;
use super::maps::Capacities;
use super::ranges::RangeAllocator;
use super::source_sets::SourceSets;

/// The copy. It changes only after the map has.
#[derive(Debug)]
pub(super) struct Mirror {
    /// Service ports by id.
    pub(super) ports: BTreeMap<u32, PortEntry>,
    /// Ids by name.
    pub(super) ids: BTreeMap<ServicePortKey, u32>,
    /// Frontends, by the record they point at.
    pub(super) frontends: BTreeMap<FrontendKey, u32>,
    pub(super) records: BTreeMap<u32, RecordEntry>,
    /// Slot ranges by offset.
    pub(super) ranges: BTreeMap<u32, RangeEntry>,
    pub(super) source_sets: SourceSets,
    pub(super) backends: BTreeMap<u32, BackendEntry>,
    /// What was left behind at indices that are free.
    pub(super) past_backends: BTreeMap<u32, Backend>,
    pub(super) prefilter: PrefilterBits,
    pub(super) taken: Allocators,
    /// Records no frontend points at, since when.
    pub(super) idle_records: BTreeMap<u32, Instant>,
    /// Backends no slot range names.
    pub(super) idle_backends: BTreeSet<u32>,
}

/// A service port.
#[derive(Debug, Default)]
pub(super) struct PortEntry {
    /// Its name; `None` when the maps held parts of a port without a usable name.
    pub(super) key: Option<ServicePortKey>,
    /// Frontends that point at one of its records.
    pub(super) frontends: BTreeSet<FrontendKey>,
    pub(super) records: BTreeSet<u32>,
    /// Offsets of its slot ranges.
    pub(super) ranges: BTreeSet<u32>,
    pub(super) backends: BTreeMap<SocketAddr, u32>,
}

impl PortEntry {
    fn is_empty(&self) -> bool {
        self.frontends.is_empty()
            && self.records.is_empty()
            && self.ranges.is_empty()
            && self.backends.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct RecordEntry {
    pub(super) record: ServiceRecord,
    /// How many frontends point at it.
    pub(super) frontends: usize,
    /// Whether what it says holds together; one found damaged at the start is never used again.
    pub(super) sound: bool,
}

#[derive(Debug)]
pub(super) struct RangeEntry {
    /// The service port it belongs to.
    pub(super) service: u32,
    /// Indices of backends.
    pub(super) slots: Vec<u32>,
    /// How many ranges of records it is.
    pub(super) records: usize,
}

#[derive(Debug)]
pub(super) struct BackendEntry {
    pub(super) backend: Backend,
    /// How many slots of slot ranges name it.
    pub(super) slots: usize,
}

/// What is taken, in the maps or for entries about to be written.
#[derive(Debug)]
pub(super) struct Allocators {
    pub(super) ids: IndexAllocator,
    pub(super) records: IndexAllocator,
    pub(super) backends: IndexAllocator,
    pub(super) slots: RangeAllocator,
}

impl Mirror {
    pub(super) fn new(capacities: Capacities) -> Self {
        Self {
            ports: BTreeMap::new(),
            ids: BTreeMap::new(),
            frontends: BTreeMap::new(),
            records: BTreeMap::new(),
            ranges: BTreeMap::new(),
            source_sets: SourceSets::new(capacities.source_ranges),
            backends: BTreeMap::new(),
            past_backends: BTreeMap::new(),
            prefilter: PrefilterBits::default(),
            taken: Allocators {
                ids: IndexAllocator::new(capacities.services),
                records: IndexAllocator::new(capacities.records),
                backends: IndexAllocator::new(capacities.backends),
                slots: RangeAllocator::new(capacities.slots),
            },
            idle_records: BTreeMap::new(),
            idle_backends: BTreeSet::new(),
        }
    }

    /// The ids of service ports of which nothing but the name is left.
    pub(super) fn empty_ports(&self) -> impl Iterator<Item = u32> {
        let ports = self.ports.iter();
        ports
            .filter(|(id, port)| port.is_empty() && !self.source_sets.has_any(**id))
            .map(|(&id, _)| id)
    }

    /// The id of the service port whose record a frontend points at.
    pub(super) fn holder_id(&self, key: &FrontendKey) -> Option<u32> {
        let record = self.records.get(self.frontends.get(key)?)?;
        Some(record.record.service)
    }

    /// The service port whose record a frontend points at.
    pub(super) fn holder(&self, key: &FrontendKey) -> Option<&ServicePortKey> {
        self.ports.get(&self.holder_id(key)?)?.key.as_ref()
    }

    pub(super) fn put_name(&mut self, id: u32, key: ServicePortKey) {
        self.ids.insert(key.clone(), id);
        self.ports.entry(id).or_default().key = Some(key);
    }

    pub(super) fn delete_name(&mut self, id: u32) {
        if let Some(PortEntry { key: Some(key), .. }) = self.ports.remove(&id) {
            self.ids.remove(&key);
        }
        self.taken.ids.release(id);
    }

    pub(super) fn put_backend(&mut self, index: u32, backend: Backend) {
        if let Some(entry) = self.backends.get_mut(&index) {
            entry.backend = backend;
            return;
        }
        self.prefilter.need(backend.addr);
        let port = self.ports.entry(backend.service).or_default();
        port.backends.entry(address_of(&backend)).or_insert(index);
        self.past_backends.remove(&index);
        self.idle_backends.insert(index);
        self.backends.insert(index, BackendEntry { backend, slots: 0 });
    }

    pub(super) fn free_backend(&mut self, index: u32, left_behind: Backend) {
        if let Some(BackendEntry { backend, .. }) = self.backends.remove(&index) {
            self.prefilter.need_no_more(backend.addr);
            if let Some(port) = self.ports.get_mut(&backend.service)
                && port.backends.get(&address_of(&backend)) == Some(&index)
            {
                port.backends.remove(&address_of(&backend));
            }
        }
        self.idle_backends.remove(&index);
        self.past_backends.insert(index, left_behind);
        self.taken.backends.release(index);
    }

    pub(super) fn put_range(&mut self, offset: u32, service: u32, slots: Vec<u32>) {
        for slot in &slots {
            if let Some(entry) = self.backends.get_mut(slot) {
                entry.slots += 1;
                self.idle_backends.remove(slot);
            }
        }
        self.ports.entry(service).or_default().ranges.insert(offset);
        let entry = RangeEntry {
            service,
            slots,
            records: 0,
        };
        self.ranges.insert(offset, entry);
    }

    /// Frees a range no record has. Nothing is written: what stands in free slots has no meaning.
    pub(super) fn free_range(&mut self, offset: u32) {
        let Some(range) = self.ranges.remove(&offset) else {
            return;
        };
        for slot in &range.slots {
            if let Some(entry) = self.backends.get_mut(slot) {
                entry.slots -= 1;
                if entry.slots == 0 {
                    self.idle_backends.insert(*slot);
                }
            }
        }
        if let Some(port) = self.ports.get_mut(&range.service) {
            port.ranges.remove(&offset);
        }
        self.taken.slots.release(slot_range(offset, &range.slots));
    }

    pub(super) fn put_record(&mut self, index: u32, record: ServiceRecord, sound: bool, now: Instant) {
        for offset in offsets(&record) {
            if let Some(range) = self.ranges.get_mut(&offset) {
                range.records += 1;
            }
        }
        self.source_sets.name(record.sources);
        self.ports
            .entry(record.service)
            .or_default()
            .records
            .insert(index);
        self.idle_records.insert(index, now);
        let entry = RecordEntry {
            record,
            frontends: 0,
            sound,
        };
        self.records.insert(index, entry);
    }

    pub(super) fn free_record(&mut self, index: u32) {
        let Some(RecordEntry { record, .. }) = self.records.remove(&index) else {
            return;
        };
        for offset in offsets(&record) {
            if let Some(range) = self.ranges.get_mut(&offset) {
                range.records -= 1;
                if range.records == 0 {
                    self.free_range(offset);
                }
            }
        }
        self.source_sets.name_no_more(record.sources);
        if let Some(port) = self.ports.get_mut(&record.service) {
            port.records.remove(&index);
        }
        self.idle_records.remove(&index);
        self.taken.records.release(index);
    }

    pub(super) fn put_frontend(&mut self, key: FrontendKey, index: u32, now: Instant) {
        match self.frontends.insert(key, index) {
            Some(before) => self.unpoint(&key, before, now),
            None => self.prefilter.need_frontend(&key),
        }
        if let Some(entry) = self.records.get_mut(&index) {
            entry.frontends += 1;
            self.idle_records.remove(&index);
            let port = self.ports.entry(entry.record.service).or_default();
            port.frontends.insert(key);
        }
    }

    pub(super) fn delete_frontend(&mut self, key: &FrontendKey, now: Instant) {
        if let Some(before) = self.frontends.remove(key) {
            self.unpoint(key, before, now);
            self.prefilter.need_frontend_no_more(key);
        }
    }

    fn unpoint(&mut self, key: &FrontendKey, index: u32, now: Instant) {
        let Some(entry) = self.records.get_mut(&index) else {
            return;
        };
        entry.frontends -= 1;
        if entry.frontends == 0 {
            self.idle_records.insert(index, now);
        }
        if let Some(port) = self.ports.get_mut(&entry.record.service) {
            port.frontends.remove(key);
        }
    }
}

/// Where a backend listens.
pub(super) fn address_of(backend: &Backend) -> SocketAddr {
    SocketAddr::new(backend.addr.to_ip(), backend.port.number())
}

/// A backend's address in the map's form.
pub(super) fn backend_address(address: SocketAddr) -> (Addr, Port) {
    (address.ip().into(), Port::new(address.port()))
}

/// The range at `offset` that holds `slots`.
pub(super) fn slot_range(offset: u32, slots: &[u32]) -> SlotRange {
    SlotRange {
        offset,
        len: u32::try_from(slots.len()).unwrap_or(u32::MAX),
    }
}

/// The ranges of a record that hold anything.
pub(super) fn slot_ranges(record: &ServiceRecord) -> impl Iterator<Item = SlotRange> + use<> {
    [record.inside, record.outside]
        .into_iter()
        .filter(|range| range.len != 0)
}

fn offsets(record: &ServiceRecord) -> impl Iterator<Item = u32> + use<> {
    slot_ranges(record).map(|range| range.offset)
}

/// The prefilter's bits, and how many things need each.
#[derive(Debug, Default)]
pub(super) struct PrefilterBits {
    /// Bits that are set in the map.
    set: BTreeSet<u32>,
    needs: BTreeMap<u32, usize>,
    /// Bits that are set and that nothing needs.
    pub(super) idle: BTreeSet<u32>,
}

impl PrefilterBits {
    pub(super) fn is_set(&self, bit: u32) -> bool {
        self.set.contains(&bit)
    }

    pub(super) fn set(&mut self, bit: u32) {
        self.set.insert(bit);
        if !self.needs.contains_key(&bit) {
            self.idle.insert(bit);
        }
    }

    pub(super) fn clear(&mut self, bit: u32) {
        self.set.remove(&bit);
        self.idle.remove(&bit);
    }

    /// Notes a backend at an address.
    fn need(&mut self, address: Addr) {
        self.need_bit(prefilter::bit(address));
    }

    fn need_no_more(&mut self, address: Addr) {
        self.need_bit_no_more(prefilter::bit(address));
    }

    /// Notes frontends at an address.
    pub(super) fn need_frontends(&mut self, address: Addr) {
        for bit in frontend_bits(address) {
            self.need_bit(bit);
        }
    }

    pub(super) fn need_frontends_no_more(&mut self, address: Addr) {
        for bit in frontend_bits(address) {
            self.need_bit_no_more(bit);
        }
    }

    fn need_bit(&mut self, bit: u32) {
        *self.needs.entry(bit).or_default() += 1;
        self.idle.remove(&bit);
    }

    fn need_bit_no_more(&mut self, bit: u32) {
        if let Some(count) = self.needs.get_mut(&bit) {
            *count -= 1;
            if *count == 0 {
                self.needs.remove(&bit);
                if self.set.contains(&bit) {
                    self.idle.insert(bit);
                }
            }
        }
    }

    fn need_frontend(&mut self, key: &FrontendKey) {
        if !is_node_port(key) {
            self.need_frontends(key.addr);
        }
    }

    fn need_frontend_no_more(&mut self, key: &FrontendKey) {
        if !is_node_port(key) {
            self.need_frontends_no_more(key.addr);
        }
    }
}

/// The bits an address sets that frontends stand at.
pub(super) fn frontend_bits(address: Addr) -> [u32; 2] {
    let bit = prefilter::bit(address);
    [bit, prefilter::frontend_bit(bit)]
}

/// Whether a frontend stands for every address of the node: no packet carries the address it is filed under.
pub(super) fn is_node_port(key: &FrontendKey) -> bool {
    key.addr == Addr::ANY4 || key.addr == Addr::ANY6
}
