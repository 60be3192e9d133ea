//! The maps of Services for the reconciler: its trait over the real ones.
//!
//! Owns: which map is written by system call and which by plain stores. Stores into mapped memory are ordered by
//! [`Mapped::set`] before whatever follows them.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::layout::maps;
use lb_common::name::Name;
use lb_common::prefilter;
use lb_common::service::{ServiceRecord, SlotRange};
use lb_common::settings::Settings;
use lb_common::slot::Slot;
use lb_common::source_range::{SetAddr, SourceRangeKey, SourceRangeOwner};
use lb_common::stats::ServiceStats;

use super::error::DataplaneError;
use super::jiffies::TickClock;
use super::load::Dataplane;
use super::mapped::Mapped;
use super::maps::{Hash, SourceRanges, errno, is_absent, open, open_data, open_hash, open_source_ranges};
use super::pins::Pins;
use super::reader::{Reader, set_bits};
use super::typed::AsPod;
use crate::reconcile::maps::{Capacities, FlowQuery, FlowsNaming, MapError, ServiceMaps};

/// The pinned maps a Service lives in, opened for writing. Made by [`Dataplane::service_maps`], once: there is one writer.
pub struct KernelMaps {
    capacities: Capacities,
    settings: Settings,
    reader: Reader,
    frontends: Hash<FrontendKey, FrontendValue>,
    names: Hash<u32, Name>,
    source_ranges: SourceRanges,
    stats: PerCpuArray<MapData, AsPod<ServiceStats>>,
    records: Mapped<ServiceRecord>,
    slots: Mapped<Slot>,
    backends: Mapped<Backend>,
    prefilter: Mapped<u64>,
}

impl std::fmt::Debug for KernelMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelMaps")
            .field("capacities", &self.capacities)
            .finish_non_exhaustive()
    }
}

impl Dataplane {
    /// Opens the maps of Services.
    ///
    /// # Errors
    /// A map cannot be opened.
    pub fn service_maps(&self) -> Result<KernelMaps, DataplaneError> {
        KernelMaps::open(&self.pins, self)
    }
}

impl KernelMaps {
    fn open(pins: &Pins, dataplane: &Dataplane) -> Result<Self, DataplaneError> {
        fn mapped<T: bytemuck::Pod>(pins: &Pins, name: &str) -> Result<Mapped<T>, DataplaneError> {
            Mapped::open(&open_data(pins, name)?, name)
        }
        let sizes = dataplane.sizes();
        Ok(Self {
            capacities: Capacities {
                frontends: sizes.frontends,
                records: sizes.records,
                slots: sizes.slots,
                backends: sizes.backends,
                services: sizes.services,
                source_ranges: sizes.source_ranges,
            },
            settings: *dataplane.settings(),
            reader: Reader::new(pins.clone()),
            frontends: open_hash(pins, maps::FRONTENDS)?,
            names: open_hash(pins, maps::NAMES)?,
            source_ranges: open_source_ranges(pins)?,
            stats: open(pins, maps::SERVICE_STATS)?
                .try_into()
                .map_err(DataplaneError::map(maps::SERVICE_STATS))?,
            records: mapped(pins, maps::SERVICES)?,
            slots: mapped(pins, maps::SLOTS)?,
            backends: mapped(pins, maps::BACKENDS)?,
            prefilter: mapped(pins, maps::PREFILTER)?,
        })
    }

    fn prefilter_word(&self, bit: u32) -> Result<(&std::sync::atomic::AtomicU64, u64), MapError> {
        let (index, mask) = prefilter::place(bit);
        let word = self
            .prefilter
            .word(index as usize)
            .ok_or_else(|| outside(maps::PREFILTER))?;
        Ok((word, mask))
    }
}

impl ServiceMaps for KernelMaps {
    fn capacities(&self) -> Capacities {
        self.capacities
    }

    fn read_frontends(&self) -> Result<Vec<(FrontendKey, FrontendValue)>, MapError> {
        self.reader.frontends().map_err(unreadable(maps::FRONTENDS))
    }

    fn read_names(&self) -> Result<Vec<(u32, Name)>, MapError> {
        self.reader.names().map_err(unreadable(maps::NAMES))
    }

    fn read_records(&self) -> Result<Vec<(u32, ServiceRecord)>, MapError> {
        Ok((0..)
            .zip(self.records.view().iter())
            .filter(|(_, record)| record.service != 0)
            .collect())
    }

    fn read_backends(&self) -> Result<Vec<(u32, Backend)>, MapError> {
        Ok((0..)
            .zip(self.backends.view().iter())
            .filter(|(_, backend)| *backend != Backend::default())
            .collect())
    }

    fn read_slots(&self, range: SlotRange) -> Result<Vec<Slot>, MapError> {
        let first = range.offset as usize;
        (first..first + range.len as usize)
            .map(|index| self.slots.view().get(index).ok_or_else(|| outside(maps::SLOTS)))
            .collect()
    }

    fn read_source_ranges(&self) -> Result<Vec<(SourceRangeKey, SourceRangeOwner)>, MapError> {
        self.reader
            .source_ranges()
            .map_err(unreadable(maps::SOURCE_RANGES))
    }

    fn read_prefilter(&self) -> Result<BTreeSet<u32>, MapError> {
        Ok(set_bits(self.prefilter.view()).collect())
    }

    fn put_frontend(&mut self, key: &FrontendKey, value: FrontendValue) -> Result<(), MapError> {
        self.frontends
            .insert(AsPod(*key), AsPod(value), 0)
            .map_err(unwritable(maps::FRONTENDS))
    }

    fn delete_frontend(&mut self, key: &FrontendKey) -> Result<(), MapError> {
        absent_is_fine(self.frontends.remove(&AsPod(*key)), maps::FRONTENDS)
    }

    fn put_name(&mut self, id: u32, name: &Name) -> Result<(), MapError> {
        self.names
            .insert(AsPod(id), AsPod(*name), 0)
            .map_err(unwritable(maps::NAMES))
    }

    fn delete_name(&mut self, id: u32) -> Result<(), MapError> {
        absent_is_fine(self.names.remove(&AsPod(id)), maps::NAMES)
    }

    fn clear_stats(&mut self, id: u32) -> Result<(), MapError> {
        let io = |source| MapError::Io {
            map: maps::SERVICE_STATS,
            source,
        };
        let cpus = nr_cpus()
            .map_err(|(path, error)| io(io::Error::new(error.kind(), format!("{path}: {error}"))))?;
        let zero = PerCpuValues::try_from(vec![AsPod(ServiceStats::default()); cpus]).map_err(io)?;
        self.stats
            .set(id, zero, 0)
            .map_err(unwritable(maps::SERVICE_STATS))
    }

    fn write_record(&mut self, index: u32, record: &ServiceRecord) -> Result<(), MapError> {
        stored(self.records.set(index as usize, record), maps::SERVICES)
    }

    fn write_backend(&mut self, index: u32, backend: &Backend) -> Result<(), MapError> {
        stored(self.backends.set(index as usize, backend), maps::BACKENDS)
    }

    fn write_slots(&mut self, offset: u32, slots: &[Slot]) -> Result<(), MapError> {
        // All or nothing: the last one tells whether all are inside.
        let end = offset as usize + slots.len();
        if end > self.slots.view().len() {
            return Err(outside(maps::SLOTS));
        }
        (offset as usize..)
            .zip(slots)
            .try_for_each(|(index, slot)| stored(self.slots.set(index, slot), maps::SLOTS))
    }

    fn put_source_range(&mut self, key: &SourceRangeKey, owner: SourceRangeOwner) -> Result<(), MapError> {
        self.source_ranges
            .insert(&trie_key(key), AsPod(owner), 0)
            .map_err(unwritable(maps::SOURCE_RANGES))
    }

    fn delete_source_range(&mut self, key: &SourceRangeKey) -> Result<(), MapError> {
        absent_is_fine(self.source_ranges.remove(&trie_key(key)), maps::SOURCE_RANGES)
    }

    fn set_prefilter_bit(&mut self, bit: u32) -> Result<(), MapError> {
        let (word, mask) = self.prefilter_word(bit)?;
        // Ordered both ways: seen before what it announces, and not before what led to it.
        word.fetch_or(mask, Ordering::SeqCst);
        Ok(())
    }

    fn clear_prefilter_bit(&mut self, bit: u32) -> Result<(), MapError> {
        let (word, mask) = self.prefilter_word(bit)?;
        word.fetch_and(!mask, Ordering::SeqCst);
        Ok(())
    }

    fn flows_naming(&mut self, query: &FlowQuery) -> Result<FlowsNaming, MapError> {
        let mut found = FlowsNaming::default();
        if *query == found {
            return Ok(found);
        }
        let now = TickClock::new(&self.settings)
            .now()
            .map_err(unreadable(maps::SETTINGS))?;
        let timeouts = self.settings.timeouts.in_jiffies(self.settings.hz);
        // Each table is mapped for its scan alone.
        let flows4 = self.reader.flows4().map_err(unreadable(maps::FLOWS4))?;
        flows4.naming(query, now, &timeouts, &mut found);
        drop(flows4);
        let flows6 = self.reader.flows6().map_err(unreadable(maps::FLOWS6))?;
        flows6.naming(query, now, &timeouts, &mut found);
        Ok(found)
    }
}

/// Addresses of the node.
impl Dataplane {
    /// Makes `wanted` the content of `node_addrs` ([`lb_common::node_addr::NODE_PORTS`] or 0 for each). New addresses first:
    /// none that stays is ever missing.
    ///
    /// # Errors
    /// The map is full or cannot be written.
    pub fn set_node_addrs(
        &mut self,
        wanted: impl IntoIterator<Item = (Addr, u32)>,
    ) -> Result<(), DataplaneError> {
        let wanted: std::collections::BTreeMap<Addr, u32> = wanted.into_iter().collect();
        let mut map = open_hash::<Addr, u32>(&self.pins, maps::NODE_ADDRS)?;
        let present: Vec<(Addr, u32)> = Reader::new(self.pins.clone()).node_addrs()?;
        for (address, flags) in &wanted {
            map.insert(AsPod(*address), AsPod(*flags), 0)
                .map_err(DataplaneError::map(maps::NODE_ADDRS))?;
        }
        for (address, _) in present.iter().filter(|(a, _)| !wanted.contains_key(a)) {
            match map.remove(&AsPod(*address)) {
                Err(error) if !is_absent(&error) => return Err(DataplaneError::map(maps::NODE_ADDRS)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn trie_key(key: &SourceRangeKey) -> Key<AsPod<SetAddr>> {
    Key::new(key.prefix_len, AsPod(key.bits))
}

fn stored(exists: bool, map: &'static str) -> Result<(), MapError> {
    if exists { Ok(()) } else { Err(outside(map)) }
}

fn outside(map: &'static str) -> MapError {
    MapError::Io {
        map,
        source: io::Error::new(io::ErrorKind::InvalidInput, "index outside the map"),
    }
}

fn absent_is_fine(result: Result<(), aya::maps::MapError>, map: &'static str) -> Result<(), MapError> {
    match result {
        Err(error) if !is_absent(&error) => Err(unwritable(map)(error)),
        _ => Ok(()),
    }
}

fn unwritable(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> MapError {
    move |error| match errno(&error) {
        // What a hash map says when every element is taken, and what a trie says.
        Some(nix::libc::E2BIG | nix::libc::ENOSPC) => MapError::Full { map },
        Some(number) => MapError::Io {
            map,
            source: io::Error::from_raw_os_error(number),
        },
        None => MapError::Io {
            map,
            source: io::Error::other(error),
        },
    }
}

fn unreadable(map: &'static str) -> impl FnOnce(DataplaneError) -> MapError {
    move |error| MapError::Io {
        map,
        source: io::Error::other(error),
    }
}
