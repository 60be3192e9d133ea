//! The maps of Services in memory, for tests, with faults on request.
//!
//! Owns: the same limits and answers as the kernel's maps, and a watch over what programs on other CPUs may be reading:
//! a write that would pull it from under them panics. Must not know: the reconciler.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::layout::maps;
use lb_common::name::Name;
use lb_common::prefilter;
use lb_common::service::{ServiceRecord, SlotRange};
use lb_common::slot::Slot;
use lb_common::source_range::{SourceRangeKey, SourceRangeOwner};

use super::maps::{Capacities, FlowQuery, FlowsNaming, MapError, ServiceMaps};

/// The maps, open to inspection.
#[derive(Clone, Debug)]
pub struct FakeMaps {
    /// Map `frontends`.
    pub frontends: BTreeMap<FrontendKey, FrontendValue>,
    /// Map `names`.
    pub names: BTreeMap<u32, Name>,
    /// Map `services`, without free records.
    pub records: BTreeMap<u32, ServiceRecord>,
    /// Map `backends`, without entries that are all zero.
    pub backends: BTreeMap<u32, Backend>,
    /// Map `slots`.
    pub slots: Vec<Slot>,
    /// Map `source_ranges`.
    pub source_ranges: BTreeMap<SourceRangeKey, SourceRangeOwner>,
    /// The bits that are set in map `prefilter`.
    pub prefilter: BTreeSet<u32>,
    /// What the flow tables hold.
    pub flows: Vec<FakeFlow>,
    /// How many writes succeeded.
    pub writes: usize,
    /// What the clock says.
    pub now: Instant,
    capacities: Capacities,
    /// How long a program reads on.
    grace: Duration,
    /// Records that frontends pointed at, and until when.
    left: Vec<(u32, Instant)>,
    fault: Option<(usize, Fault)>,
}

/// An entry of the flow tables, as far as the reconciler asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeFlow {
    /// The backend it names.
    pub backend: u32,
    /// Source and destination of its key.
    pub addresses: [Addr; 2],
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`MapError::Full`]
    Full,
    /// [`MapError::Io`]
    Io,
}

impl FakeMaps {
    /// Empty maps, whose readers may go on for `grace` with what they read.
    #[must_use]
    pub fn new(capacities: Capacities, now: Instant, grace: Duration) -> Self {
        Self {
            frontends: BTreeMap::new(),
            names: BTreeMap::new(),
            records: BTreeMap::new(),
            backends: BTreeMap::new(),
            slots: vec![0; capacities.slots as usize],
            source_ranges: BTreeMap::new(),
            prefilter: BTreeSet::new(),
            flows: Vec::new(),
            writes: 0,
            now,
            capacities,
            grace,
            left: Vec::new(),
            fault: None,
        }
    }

    /// Lets one write fail: the one after `writes` others have succeeded.
    pub fn fail_after(&mut self, writes: usize, fault: Fault) {
        self.fault = Some((writes, fault));
    }

    /// Whether a fault was asked for and has not come about yet; it is withdrawn.
    pub fn withdraw_fault(&mut self) -> bool {
        self.fault.take().is_some()
    }

    /// Records that a program may be reading: frontends point at them, or did within the grace.
    #[must_use]
    pub fn records_in_sight(&self) -> BTreeSet<u32> {
        let pointed_at = self.frontends.values().map(|value| value.index());
        let left = self.left.iter().filter(|(_, until)| self.now < *until);
        pointed_at.chain(left.map(|(index, _)| *index)).collect()
    }

    fn ranges_in_sight(&self) -> impl Iterator<Item = SlotRange> {
        let records = self.records_in_sight().into_iter();
        records
            .filter_map(|index| self.records.get(&index))
            .flat_map(|record| [record.inside, record.outside])
    }

    fn assert_source_set_may_change(&self, key: &SourceRangeKey) {
        let in_sight = self.records_in_sight().into_iter();
        let mut records = in_sight.filter_map(|index| self.records.get(&index));
        let set = key.bits.set;
        assert!(
            !records.any(|record| record.sources == set),
            "a reader may ask set {set} of source ranges"
        );
    }

    fn leave(&mut self, key: &FrontendKey) {
        self.left.retain(|(_, until)| self.now < *until);
        if let Some(value) = self.frontends.get(key) {
            self.left.push((value.index(), self.now + self.grace));
        }
    }

    fn assert_backend_may_change(&self, index: u32, new: &Backend) {
        let Some(present) = self.backends.get(&index) else {
            return;
        };
        let identity = |b: &Backend| (b.addr, b.port, b.proto, b.service);
        if present.service == 0 || identity(present) == identity(new) {
            return;
        }
        let named = self.flows.iter().any(|flow| flow.backend == index);
        assert!(!named, "a flow names backend {index}");
        let mut slots = self
            .ranges_in_sight()
            .flat_map(|range| range.offset..range.offset + range.len);
        let chosen = slots.any(|slot| self.slots[slot as usize] == index);
        assert!(!chosen, "a reader may choose backend {index}");
    }

    fn write(&mut self, map: &'static str) -> Result<(), MapError> {
        match &mut self.fault {
            Some((0, fault)) => {
                let fault = *fault;
                self.fault = None;
                return Err(match fault {
                    Fault::Full => MapError::Full { map },
                    Fault::Io => MapError::Io {
                        map,
                        source: io::Error::other("a fault was asked for"),
                    },
                });
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        self.writes += 1;
        Ok(())
    }
}

fn inside(map: &'static str, index: usize, entries: u32) -> Result<(), MapError> {
    if index < entries as usize {
        return Ok(());
    }
    Err(MapError::Io {
        map,
        source: io::Error::new(io::ErrorKind::InvalidInput, "index outside the map"),
    })
}

impl ServiceMaps for FakeMaps {
    fn capacities(&self) -> Capacities {
        self.capacities
    }

    fn read_frontends(&self) -> Result<Vec<(FrontendKey, FrontendValue)>, MapError> {
        Ok(self.frontends.iter().map(|(&key, &value)| (key, value)).collect())
    }

    fn read_names(&self) -> Result<Vec<(u32, Name)>, MapError> {
        Ok(self.names.iter().map(|(&id, &name)| (id, name)).collect())
    }

    fn read_records(&self) -> Result<Vec<(u32, ServiceRecord)>, MapError> {
        Ok(self
            .records
            .iter()
            .map(|(&index, &record)| (index, record))
            .collect())
    }

    fn read_backends(&self) -> Result<Vec<(u32, Backend)>, MapError> {
        Ok(self
            .backends
            .iter()
            .map(|(&index, &backend)| (index, backend))
            .collect())
    }

    fn read_slots(&self, range: SlotRange) -> Result<Vec<Slot>, MapError> {
        let start = range.offset as usize;
        let end = start + range.len as usize;
        inside(maps::SLOTS, end.saturating_sub(1), self.capacities.slots)?;
        Ok(self.slots[start..end].to_vec())
    }

    fn read_source_ranges(&self) -> Result<Vec<(SourceRangeKey, SourceRangeOwner)>, MapError> {
        Ok(self
            .source_ranges
            .iter()
            .map(|(&key, &owner)| (key, owner))
            .collect())
    }

    fn read_prefilter(&self) -> Result<BTreeSet<u32>, MapError> {
        Ok(self.prefilter.clone())
    }

    fn put_frontend(&mut self, key: &FrontendKey, value: FrontendValue) -> Result<(), MapError> {
        let map = maps::FRONTENDS;
        if !self.frontends.contains_key(key) && self.frontends.len() >= self.capacities.frontends as usize {
            return Err(MapError::Full { map });
        }
        self.write(map)?;
        self.leave(key);
        self.frontends.insert(*key, value);
        Ok(())
    }

    fn delete_frontend(&mut self, key: &FrontendKey) -> Result<(), MapError> {
        self.write(maps::FRONTENDS)?;
        self.leave(key);
        self.frontends.remove(key);
        Ok(())
    }

    fn put_name(&mut self, id: u32, name: &Name) -> Result<(), MapError> {
        inside(maps::NAMES, id as usize, self.capacities.services)?;
        self.write(maps::NAMES)?;
        self.names.insert(id, *name);
        Ok(())
    }

    fn delete_name(&mut self, id: u32) -> Result<(), MapError> {
        self.write(maps::NAMES)?;
        self.names.remove(&id);
        Ok(())
    }

    fn clear_stats(&mut self, id: u32) -> Result<(), MapError> {
        inside(maps::SERVICE_STATS, id as usize, self.capacities.services)?;
        self.write(maps::SERVICE_STATS)
    }

    fn write_record(&mut self, index: u32, record: &ServiceRecord) -> Result<(), MapError> {
        inside(maps::SERVICES, index as usize, self.capacities.records)?;
        let in_sight = self.records_in_sight().contains(&index) && self.records.contains_key(&index);
        assert!(!in_sight, "a reader may look at record {index}");
        self.write(maps::SERVICES)?;
        if record.service == 0 {
            self.records.remove(&index);
        } else {
            self.records.insert(index, *record);
        }
        Ok(())
    }

    fn write_backend(&mut self, index: u32, backend: &Backend) -> Result<(), MapError> {
        inside(maps::BACKENDS, index as usize, self.capacities.backends)?;
        self.assert_backend_may_change(index, backend);
        self.write(maps::BACKENDS)?;
        self.backends.insert(index, *backend);
        Ok(())
    }

    fn write_slots(&mut self, offset: u32, slots: &[Slot]) -> Result<(), MapError> {
        let start = offset as usize;
        let end = start + slots.len();
        inside(maps::SLOTS, end.saturating_sub(1), self.capacities.slots)?;
        let overlaps = |range: SlotRange| {
            let (from, to) = (range.offset as usize, (range.offset + range.len) as usize);
            range.len != 0 && from < end && start < to
        };
        let in_sight = self.ranges_in_sight().any(overlaps);
        assert!(!in_sight, "a reader may look at slots {start}..{end}");
        self.write(maps::SLOTS)?;
        self.slots[start..end].copy_from_slice(slots);
        Ok(())
    }

    fn put_source_range(&mut self, key: &SourceRangeKey, owner: SourceRangeOwner) -> Result<(), MapError> {
        let map = maps::SOURCE_RANGES;
        let is_new = !self.source_ranges.contains_key(key);
        if is_new && self.source_ranges.len() >= self.capacities.source_ranges as usize {
            return Err(MapError::Full { map });
        }
        self.assert_source_set_may_change(key);
        self.write(map)?;
        self.source_ranges.insert(*key, owner);
        Ok(())
    }

    fn delete_source_range(&mut self, key: &SourceRangeKey) -> Result<(), MapError> {
        self.assert_source_set_may_change(key);
        self.write(maps::SOURCE_RANGES)?;
        self.source_ranges.remove(key);
        Ok(())
    }

    fn set_prefilter_bit(&mut self, bit: u32) -> Result<(), MapError> {
        self.write(maps::PREFILTER)?;
        self.prefilter.insert(bit);
        Ok(())
    }

    fn clear_prefilter_bit(&mut self, bit: u32) -> Result<(), MapError> {
        self.write(maps::PREFILTER)?;
        self.prefilter.remove(&bit);
        Ok(())
    }

    fn flows_naming(&mut self, query: &FlowQuery) -> Result<FlowsNaming, MapError> {
        let mut named = FlowsNaming::default();
        for flow in &self.flows {
            if query.backends.contains(&flow.backend) {
                named.backends.insert(flow.backend);
            }
            let bits = flow.addresses.iter().map(|&address| prefilter::bit(address));
            named
                .prefilter_bits
                .extend(bits.filter(|bit| query.prefilter_bits.contains(bit)));
        }
        Ok(named)
    }
}
