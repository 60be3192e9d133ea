//! Looking into the maps without an agent: what the command line reads.
//!
//! Owns: read access to every map, typed. Opens what it needs when asked and holds nothing. Must not write.

use std::collections::HashMap as StdHashMap;
use std::hash::Hash as StdHash;
use std::path::Path;

use aya::maps::{Array, PerCpuArray};
use bytemuck::Pod;
use lb_common::addr::Addr;
use lb_common::affinity::{AffinityKey, AffinityValue};
use lb_common::backend::Backend;
use lb_common::device::{self, Device};
use lb_common::flow::{FlowEntry4, FlowEntry6};
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::layout::{self, maps};
use lb_common::name::Name;
use lb_common::reason::Reason;
use lb_common::service::ServiceRecord;
use lb_common::settings::Settings;
use lb_common::slot::Slot;
use lb_common::source_range::{SourceRangeKey, SourceRangeOwner};
use lb_common::stats::ServiceStats;

use super::attach;
use super::error::DataplaneError;
use super::flows::{Flow, FlowTable};
use super::links::PinnedHook;
use super::load::read_settings;
use super::mapped::{MMAPABLE, View};
use super::maps::{open, open_data, open_hash, open_source_ranges};
use super::pins::Pins;
use super::sizes::Sizes;
use super::typed::AsPod;

/// The pinned maps of an installation.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) pins: Pins,
}

impl Reader {
    /// The installation under `bpffs`.
    ///
    /// # Errors
    /// There is none of this version's layout.
    pub fn open(bpffs: &Path) -> Result<Self, DataplaneError> {
        let reader = Self::new(Pins::new(bpffs));
        reader.settings()?;
        Ok(reader)
    }

    pub(super) fn new(pins: Pins) -> Self {
        Self { pins }
    }

    /// What the installation works with.
    ///
    /// # Errors
    /// There is none, or it was never finished.
    pub fn settings(&self) -> Result<Settings, DataplaneError> {
        let not_installed = || DataplaneError::NotInstalled {
            path: self.pins.root().to_owned(),
        };
        if !self.pins.map(maps::SETTINGS).exists() {
            return Err(not_installed());
        }
        let settings = read_settings(&self.pins)?;
        if settings.layout == layout::VERSION {
            Ok(settings)
        } else {
            Err(not_installed())
        }
    }

    /// The sizes of the maps.
    ///
    /// # Errors
    /// A map cannot be opened.
    pub fn sizes(&self) -> Result<Sizes, DataplaneError> {
        let entries = |name| {
            let info = open_data(&self.pins, name)?.info();
            Ok::<_, DataplaneError>(info.map_err(DataplaneError::map(name))?.max_entries())
        };
        Ok(Sizes {
            flow4_buckets: entries(maps::FLOWS4)?,
            flow6_buckets: entries(maps::FLOWS6)?,
            frontends: entries(maps::FRONTENDS)?,
            records: entries(maps::SERVICES)?,
            slots: entries(maps::SLOTS)?,
            backends: entries(maps::BACKENDS)?,
            services: entries(maps::NAMES)?,
            affinity: entries(maps::AFFINITY)?,
            source_ranges: entries(maps::SOURCE_RANGES)?,
        })
    }

    /// Every frontend, in no order.
    ///
    /// # Errors
    /// The map cannot be read; the same holds for all below.
    pub fn frontends(&self) -> Result<Vec<(FrontendKey, FrontendValue)>, DataplaneError> {
        self.hash(maps::FRONTENDS)
    }

    /// Every service record in use, by index.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, DataplaneError> {
        self.array(maps::SERVICES, |record: &ServiceRecord| record.service != 0)
    }

    /// All slots: a record's ranges are slices of it.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn slots(&self) -> Result<Vec<Slot>, DataplaneError> {
        let view: View<Slot> = self.view(maps::SLOTS)?;
        Ok(view.iter().collect())
    }

    /// Every backend in use, by index.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn backends(&self) -> Result<Vec<(u32, Backend)>, DataplaneError> {
        self.array(maps::BACKENDS, |backend: &Backend| backend.service != 0)
    }

    /// The names of service ports by id, in no order.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn names(&self) -> Result<Vec<(u32, Name)>, DataplaneError> {
        self.hash(maps::NAMES)
    }

    /// The node's addresses, each with whether nodePorts are served there ([`lb_common::node_addr::NODE_PORTS`]).
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn node_addrs(&self) -> Result<Vec<(Addr, u32)>, DataplaneError> {
        self.hash(maps::NODE_ADDRS)
    }

    /// What is remembered for session affinity, in no order.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn affinity(&self) -> Result<Vec<(AffinityKey, AffinityValue)>, DataplaneError> {
        self.hash(maps::AFFINITY)
    }

    /// Every source range with the service port it belongs to, in no order.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn source_ranges(&self) -> Result<Vec<(SourceRangeKey, SourceRangeOwner)>, DataplaneError> {
        let name = maps::SOURCE_RANGES;
        // As with a hash map: a walk that the kernel starts over ends even so.
        let most = self.entries(name)?.saturating_mul(2);
        let map = open_source_ranges(&self.pins)?;
        let mut seen = StdHashMap::new();
        for entry in map.iter().take(most) {
            let (key, AsPod(owner)) = entry.map_err(DataplaneError::map(name))?;
            let AsPod(bits) = key.data();
            let prefix_len = key.prefix_len();
            seen.insert(SourceRangeKey { prefix_len, bits }, owner);
        }
        Ok(seen.into_iter().collect())
    }

    /// The devices, by number.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn devices(&self) -> Result<Vec<(u32, Device)>, DataplaneError> {
        self.array(maps::DEVICES, |entry: &Device| entry.kind() != device::NONE)
    }

    /// The links that hold devices.
    ///
    /// # Errors
    /// A link cannot be looked at.
    pub fn attached(&self) -> Result<Vec<PinnedHook>, DataplaneError> {
        attach::attached(&self.pins)
    }

    /// What the service ports `ids` carried, on each CPU.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn service_stats_per_cpu(
        &self,
        ids: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<(u32, Vec<ServiceStats>)>, DataplaneError> {
        let map = self.per_cpu(maps::SERVICE_STATS)?;
        ids.into_iter()
            .map(|id| Ok((id, per_cpu_values(&map, maps::SERVICE_STATS, id)?)))
            .collect()
    }

    /// What the service ports `ids` carried, all CPUs together.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn service_stats(
        &self,
        ids: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<(u32, ServiceStats)>, DataplaneError> {
        let per_cpu = self.service_stats_per_cpu(ids)?;
        Ok(per_cpu.into_iter().map(|(id, cpus)| (id, sum(&cpus))).collect())
    }

    /// How often each reason was counted, on each CPU.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn reasons_per_cpu(&self) -> Result<Vec<(Reason, Vec<u64>)>, DataplaneError> {
        let map = self.per_cpu(maps::REASONS)?;
        Reason::ALL
            .iter()
            .map(|reason| Ok((*reason, per_cpu_values(&map, maps::REASONS, *reason as u32)?)))
            .collect()
    }

    /// How often each reason was counted, all CPUs together.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        let per_cpu = self.reasons_per_cpu()?;
        Ok(per_cpu
            .into_iter()
            .map(|(reason, cpus)| (reason, cpus.iter().copied().fold(0, u64::wrapping_add)))
            .collect())
    }

    /// The bits of the prefilter that are set, in order.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn prefilter(&self) -> Result<Vec<u32>, DataplaneError> {
        let view: View<u64> = self.view(maps::PREFILTER)?;
        Ok(set_bits(&view).collect())
    }

    /// The IPv4 flow table, mapped as long as the returned value lives.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn flows4(&self) -> Result<FlowTable<FlowEntry4>, DataplaneError> {
        self.flows(maps::FLOWS4)
    }

    /// The same for IPv6.
    ///
    /// # Errors
    /// See [`Self::frontends`].
    pub fn flows6(&self) -> Result<FlowTable<FlowEntry6>, DataplaneError> {
        self.flows(maps::FLOWS6)
    }

    fn flows<E: Flow>(&self, name: &str) -> Result<FlowTable<E>, DataplaneError> {
        FlowTable::open(&open_data(&self.pins, name)?, name)
    }

    fn view<T: Pod>(&self, name: &str) -> Result<View<T>, DataplaneError> {
        View::open(&open_data(&self.pins, name)?, name)
    }

    /// The entries of an array that `keep` wants, through memory where the map offers it.
    pub(super) fn array<T: Pod>(
        &self,
        name: &str,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Vec<(u32, T)>, DataplaneError> {
        let map = open_data(&self.pins, name)?;
        let info = map.info().map_err(DataplaneError::map(name))?;
        if info.map_flags() & MMAPABLE != 0 {
            let view: View<T> = View::open(&map, name)?;
            return Ok((0..).zip(view.iter()).filter(|(_, value)| keep(value)).collect());
        }
        let array: Array<_, AsPod<T>> = open(&self.pins, name)?
            .try_into()
            .map_err(DataplaneError::map(name))?;
        let mut kept = Vec::new();
        for (index, value) in (0..).zip(array.iter()) {
            let AsPod(value) = value.map_err(DataplaneError::map(name))?;
            if keep(&value) {
                kept.push((index, value));
            }
        }
        Ok(kept)
    }

    /// The entries of a hash map. One that changes under the walk may make the kernel start over: an entry seen twice counts
    /// once, and the walk ends even so.
    fn hash<K: Pod + Eq + StdHash, V: Pod>(&self, name: &str) -> Result<Vec<(K, V)>, DataplaneError> {
        let most = self.entries(name)?.saturating_mul(2);
        let map = open_hash::<K, V>(&self.pins, name)?;
        let mut seen = StdHashMap::new();
        for entry in map.iter().take(most) {
            let (AsPod(key), AsPod(value)) = entry.map_err(DataplaneError::map(name))?;
            seen.insert(key, value);
        }
        Ok(seen.into_iter().collect())
    }

    fn entries(&self, name: &str) -> Result<usize, DataplaneError> {
        let info = open_data(&self.pins, name)?
            .info()
            .map_err(DataplaneError::map(name))?;
        Ok(info.max_entries() as usize)
    }

    fn per_cpu<T: Pod>(&self, name: &str) -> Result<PerCpu<T>, DataplaneError> {
        open(&self.pins, name)?
            .try_into()
            .map_err(DataplaneError::map(name))
    }
}

type PerCpu<T> = PerCpuArray<aya::maps::MapData, AsPod<T>>;

fn per_cpu_values<T: Pod>(map: &PerCpu<T>, name: &str, index: u32) -> Result<Vec<T>, DataplaneError> {
    let values = map.get(&index, 0).map_err(DataplaneError::map(name))?;
    Ok(values.iter().map(|AsPod(value)| *value).collect())
}

fn sum(cpus: &[ServiceStats]) -> ServiceStats {
    cpus.iter().fold(ServiceStats::default(), |a, b| ServiceStats {
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
        connections: a.connections.wrapping_add(b.connections),
        refused: a.refused.wrapping_add(b.refused),
    })
}

/// The numbers of the bits that are set in a map of words.
pub(super) fn set_bits(words: &View<u64>) -> impl Iterator<Item = u32> + '_ {
    (0_u32..)
        .zip(words.iter())
        .filter(|(_, word)| *word != 0)
        .flat_map(|(index, word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| index * 64 + bit)
        })
}
