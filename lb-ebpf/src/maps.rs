//! The maps. Sizes are the largest an installation may want; the loader sets the real ones.

use crate::pipeline::scratch::Scratch;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use lb_common::addr::{Addr, Addr4, Addr6};
use lb_common::affinity::{AffinityKey, AffinityValue};
use lb_common::backend::Backend;
use lb_common::device::{Device, MAX_DEVICES};
use lb_common::flow::{Bucket4, Bucket6};
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::name::Name;
use lb_common::service::ServiceRecord;
use lb_common::settings::Settings;
use lb_common::slot::Slot;
use lb_common::source_range::{SetAddr, SourceRangeOwner};
use lb_common::stats::ServiceStats;
use lb_common::{prefilter, reason};

const MMAP: usize = BPF_F_MMAPABLE as usize;
/// Hash elements are allocated as they come: most installations stay far below the maximum.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "frontends")]
pub static FRONTENDS: HashMap<FrontendKey, FrontendValue, 131_072, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "services")]
pub static SERVICES: Array<ServiceRecord, 65_536, MMAP> = Array::new();

#[btf_map(name = "slots")]
pub static SLOTS: Array<Slot, 1_048_576, MMAP> = Array::new();

#[btf_map(name = "backends")]
pub static BACKENDS: Array<Backend, 131_072, MMAP> = Array::new();

#[btf_map(name = "flows4")]
pub static FLOWS4: Array<Bucket4, 131_072, MMAP> = Array::new();

#[btf_map(name = "flows6")]
pub static FLOWS6: Array<Bucket6, 65_536, MMAP> = Array::new();

#[btf_map(name = "locks4")]
pub static LOCKS4: Array<u32, 131_072> = Array::new();

#[btf_map(name = "locks6")]
pub static LOCKS6: Array<u32, 65_536> = Array::new();

#[btf_map(name = "source_ranges")]
pub static SOURCE_RANGES: LpmTrie<SetAddr, SourceRangeOwner, 65_536> = LpmTrie::new();

#[btf_map(name = "affinity")]
pub static AFFINITY: LruHashMap<AffinityKey, AffinityValue, 65_536> = LruHashMap::new();

#[btf_map(name = "node_addrs")]
pub static NODE_ADDRS: HashMap<Addr, u32, 4096, NO_PREALLOC> = HashMap::new();

#[btf_map(name = "prefilter")]
pub static PREFILTER: Array<u64, { prefilter::WORDS }, MMAP> = Array::new();

#[btf_map(name = "devices")]
pub static DEVICES: Array<Device, MAX_DEVICES, MMAP> = Array::new();

#[btf_map(name = "tx_devices")]
pub static TX_DEVICES: DevMapHash<256> = DevMapHash::new();

#[btf_map(name = "service_stats")]
pub static SERVICE_STATS: PerCpuArray<ServiceStats, 65_536> = PerCpuArray::new();

#[btf_map(name = "reasons")]
pub static REASONS: PerCpuArray<u64, { reason::MAX_REASONS }> = PerCpuArray::new();

#[btf_map(name = "settings")]
pub static SETTINGS: Array<Settings, 1, MMAP> = Array::new();

#[btf_map(name = "names")]
pub static NAMES: HashMap<u32, Name, 65_536, NO_PREALLOC> = HashMap::new();

/// Tokens of the reject stage, and the jiffies they were last filled at.
#[btf_map(name = "reject_tokens")]
pub static REJECT_TOKENS: PerCpuArray<[u32; 2], 1> = PerCpuArray::new();

#[btf_map(name = "scratch4")]
pub static SCRATCH4: PerCpuArray<Scratch<Addr4>, 1> = PerCpuArray::new();

#[btf_map(name = "scratch6")]
pub static SCRATCH6: PerCpuArray<Scratch<Addr6>, 1> = PerCpuArray::new();

#[btf_map(name = "xdp_stages")]
pub static XDP_STAGES: ProgramArray<8> = ProgramArray::new();

#[btf_map(name = "tc_stages")]
pub static TC_STAGES: ProgramArray<8> = ProgramArray::new();
