//! The sets of source ranges that the map holds.
//!
//! Owns: which ranges make a set, whose it is and how many records name it. A set without a record is idle: its ranges may
//! be removed. Must not know: what should be in the map.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use lb_common::source_range::SourceRangeKey;

use super::index::IndexAllocator;

/// The copy of the map, by set.
#[derive(Debug)]
pub(super) struct SourceSets {
    sets: BTreeMap<u32, SourceSet>,
    by_service: BTreeMap<u32, BTreeSet<u32>>,
    taken: IndexAllocator,
    idle: BTreeSet<u32>,
    entries: usize,
}

#[derive(Debug)]
struct SourceSet {
    /// The service port it belongs to.
    service: u32,
    ranges: BTreeSet<SourceRangeKey>,
    /// How many records name it.
    records: usize,
}

impl SourceSets {
    /// None, in a map of this many entries.
    pub(super) fn new(entries: u32) -> Self {
        Self {
            sets: BTreeMap::new(),
            by_service: BTreeMap::new(),
            // Every set has an entry at least.
            taken: IndexAllocator::new(entries.saturating_add(1)),
            idle: BTreeSet::new(),
            entries: 0,
        }
    }

    /// Entries of the map.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Whether there is anything to remove.
    pub(super) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// The ranges of sets that no record names.
    pub(super) fn idle_ranges(&self) -> Vec<SourceRangeKey> {
        let sets = self.idle.iter().filter_map(|set| self.sets.get(set));
        sets.flat_map(|set| set.ranges.iter().copied()).collect()
    }

    /// Takes the number of a set to be written.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.taken.take()
    }

    /// Gives the number of a set back, unless a part of it was written.
    pub(super) fn release_unwritten(&mut self, set: u32) {
        if !self.sets.contains_key(&set) {
            self.taken.release(set);
        }
    }

    /// Takes in a set that was found in the maps; a record may name one that has no ranges.
    pub(super) fn restore(&mut self, set: u32, service: u32) {
        self.taken.reserve(set);
        self.add(set, service);
    }

    /// Whether a service port has sets.
    pub(super) fn has_any(&self, service: u32) -> bool {
        self.by_service.contains_key(&service)
    }

    /// A set of the service port that holds just these networks.
    pub(super) fn find(&self, service: u32, networks: &BTreeSet<IpNet>) -> Option<u32> {
        let own = self.by_service.get(&service).into_iter().flatten().copied();
        let mut equal = own.filter(|set| self.sets[set].ranges == keys(*set, networks).collect());
        equal.next()
    }

    /// A range has been added.
    pub(super) fn put(&mut self, key: SourceRangeKey, service: u32) {
        let entry = self.add(key.bits.set, service);
        if entry.ranges.insert(key) {
            self.entries += 1;
        }
    }

    /// A range has been removed.
    pub(super) fn delete(&mut self, key: &SourceRangeKey) {
        let set = key.bits.set;
        if let Some(entry) = self.sets.get_mut(&set)
            && entry.ranges.remove(key)
        {
            self.entries -= 1;
            self.forget_if_unused(set);
        }
    }

    /// A record names the set.
    pub(super) fn name(&mut self, set: u32) {
        if let Some(entry) = self.sets.get_mut(&set) {
            entry.records += 1;
            self.idle.remove(&set);
        }
    }

    /// A record names the set no more.
    pub(super) fn name_no_more(&mut self, set: u32) {
        if let Some(entry) = self.sets.get_mut(&set) {
            entry.records -= 1;
            if entry.records == 0 {
                self.idle.insert(set);
                self.forget_if_unused(set);
            }
        }
    }

    fn add(&mut self, set: u32, service: u32) -> &mut SourceSet {
        self.sets.entry(set).or_insert_with(|| {
            self.idle.insert(set);
            self.by_service.entry(service).or_default().insert(set);
            SourceSet {
                service,
                ranges: BTreeSet::new(),
                records: 0,
            }
        })
    }

    /// Frees the number of a set of which nothing is left.
    fn forget_if_unused(&mut self, set: u32) {
        let Entry::Occupied(entry) = self.sets.entry(set) else {
            return;
        };
        if !entry.get().ranges.is_empty() || entry.get().records != 0 {
            return;
        }
        let service = entry.remove().service;
        if let Some(own) = self.by_service.get_mut(&service) {
            own.remove(&set);
            if own.is_empty() {
                self.by_service.remove(&service);
            }
        }
        self.idle.remove(&set);
        self.taken.release(set);
    }
}

/// The map's keys for the networks of a set.
pub(super) fn keys(set: u32, networks: &BTreeSet<IpNet>) -> impl Iterator<Item = SourceRangeKey> + '_ {
    let key = move |network: &IpNet| SourceRangeKey::new(set, network.addr(), network.prefix_len());
    networks.iter().map(key)
}
