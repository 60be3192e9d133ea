//! The kernel object in private maps, written by hand: no agent, no pins.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, anyhow, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, PerCpuArray, PerCpuValues, ProgramArray};
use aya::programs::Program;
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use lb_common::addr::{Addr, Addr4, Addr6};
use lb_common::affinity::{AffinityKey, AffinityValue};
use lb_common::backend::{self, Backend};
use lb_common::device::{self, Device};
use lb_common::flow::{Bucket4, Bucket6, TOMBSTONE, WAYS};
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::hash::{Seed, first_bucket, second_bucket, tuple4, tuple6};
use lb_common::layout::{Stage, globals, maps};
use lb_common::lifetime::Timeouts;
use lb_common::net;
use lb_common::port::Port;
use lb_common::prefilter;
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, SlotRange};
use lb_common::source_range::{SetAddr, SourceRangeKey, SourceRangeOwner};

use super::flows::{Flow, State};
use super::service::{Net, Service, is_local};
use super::table::Table;
use super::testbed::Testbed;
use super::who::{Family, Mac, Who};
use crate::object;

/// Entries of `services`, `slots` and `backends`.
const ENTRIES: u32 = 256;

/// Ticks a second as the programs are told: so many that no second passes within a test; time moves when a test moves
/// last-seen stamps.
pub const HZ: u32 = 100_000;

/// Idle times, in ticks of [`HZ`].
pub const TIMEOUTS: Timeouts = Timeouts {
    tcp_open: 60 * HZ,
    tcp_established: 3600 * HZ,
    tcp_closing: 120 * HZ,
    tcp_reset: 10 * HZ,
    udp: 30 * HZ,
    udp_stream: 120 * HZ,
};

/// The secret of the flow tables' hash.
const SEED: Seed = {
    const ODD: u32 = 0x9e37_79b1;
    let mut words = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41];
    let mut i = 0;
    while i < words.len() {
        words[i] = ODD.wrapping_mul(words[i]);
        i += 1;
    }
    Seed(words)
};

/// What differs between the instances of tests.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// First port for rewritten sources, and how many.
    pub snat_ports: (u16, u16),
    /// Rejects a second and CPU.
    pub rejects_per_second: u32,
    /// Buckets of each flow table, a power of two.
    pub flow_buckets: u32,
    /// Ticks a second, as the programs are told.
    pub hz: u32,
    /// Whether the hot program may complete packets; else the full stage gets all of them.
    pub hot: bool,
    /// Whether the programs are told which addresses the cluster's pods have.
    pub pods_known: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snat_ports: (61_000, 1000),
            rejects_per_second: 1_000_000,
            flow_buckets: 64,
            hz: HZ,
            hot: true,
            pods_known: false,
        }
    }
}

/// A plain value of lb-common in an aya map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: bytemuck's Pod promises all that aya's asks for: any bytes are a value, and there are none in between.
unsafe impl<T: bytemuck::Pod> aya::Pod for Plain<T> {}

type SourceRanges<'a> = LpmTrie<&'a mut MapData, Plain<SetAddr>, Plain<SourceRangeOwner>>;

/// The loaded programs and their maps.
#[derive(Debug)]
pub struct Datapath {
    ebpf: Ebpf,
    options: Options,
}

impl Datapath {
    /// Loads every program, with its tail calls.
    ///
    /// # Errors
    /// When the verifier refuses one, with its log.
    pub fn load(options: Options) -> Result<Self> {
        let mask = options.flow_buckets - 1;
        let t = &TIMEOUTS;
        let timeouts = [
            t.tcp_open,
            t.tcp_established,
            t.tcp_closing,
            t.tcp_reset,
            t.udp,
            t.udp_stream,
        ];
        let (first, count) = options.snat_ports;
        let snat_ports = u32::from(first) | u32::from(count) << 16;
        let fresh_for = if options.hot { options.hz } else { 0 };
        let service_net4 = net::net4(addr4(Who::Unserved), 16);
        let service_net6 = net::net6(addr6(Who::Unserved), 108);
        let (cluster_net4, cluster_net6) = if options.pods_known {
            (net::net4(addr4(Who::Pod), 16), net::net6(addr6(Who::Pod), 48))
        } else {
            (net::NONE4, net::NONE6)
        };
        let mut loader = EbpfLoader::new();
        loader
            .override_global(globals::SEED, &SEED.0, true)
            .override_global(globals::FLOW4_MASK, &mask, true)
            .override_global(globals::FLOW6_MASK, &mask, true)
            .override_global(globals::HZ, &options.hz, true)
            .override_global(globals::FRESH_FOR, &fresh_for, true)
            .override_global(globals::TIMEOUTS, &timeouts, true)
            .override_global(globals::SNAT_PORTS, &snat_ports, true)
            .override_global(globals::REJECTS_PER_SECOND, &options.rejects_per_second, true)
            .override_global(globals::SERVICE_NET4, &service_net4, true)
            .override_global(globals::SERVICE_NET6, &service_net6, true)
            .override_global(globals::CLUSTER_NET4, &cluster_net4, true)
            .override_global(globals::CLUSTER_NET6, &cluster_net6, true)
            .override_global(globals::LOG_LEVEL, &0_u8, true);
        for map in [maps::FLOWS4, maps::FLOWS6, maps::LOCKS4, maps::LOCKS6] {
            loader.map_max_entries(map, options.flow_buckets);
        }
        for map in [
            maps::SERVICES,
            maps::SLOTS,
            maps::BACKENDS,
            maps::FRONTENDS,
            maps::AFFINITY,
            maps::SOURCE_RANGES,
        ] {
            loader.map_max_entries(map, ENTRIES);
        }
        let mut ebpf = loader
            .load(object::DATAPATH)
            .context("opening the kernel object")?;
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => continue,
            }
            .with_context(|| format!("loading {name}"))?;
        }
        let mut this = Self { ebpf, options };
        this.fill_stages()?;
        Ok(this)
    }

    fn fill_stages(&mut self) -> Result<()> {
        for (map, by_hook) in [(maps::XDP_STAGES, 0), (maps::TC_STAGES, 1)] {
            let mut fds = Vec::new();
            for (stage, xdp, tc) in Stage::ALL {
                let name = [xdp, tc][by_hook];
                let fd = match self.program(name)? {
                    Program::Xdp(program) => program.fd()?.try_clone()?,
                    Program::SchedClassifier(program) => program.fd()?.try_clone()?,
                    _ => return Err(anyhow!("{name} is of no type that stages have")),
                };
                fds.push((stage as u32, fd));
            }
            let map = self.ebpf.map_mut(map).with_context(|| format!("no map {map}"))?;
            let mut stages = ProgramArray::try_from(map)?;
            for (index, fd) in &fds {
                stages.set(*index, fd, 0)?;
            }
        }
        Ok(())
    }

    /// A program by name.
    ///
    /// # Errors
    /// When the object has none of the name.
    pub fn program(&self, name: &str) -> Result<&Program> {
        self.ebpf
            .program(name)
            .with_context(|| format!("no program {name} in the object"))
    }

    /// The ports for rewritten sources.
    #[must_use]
    pub fn snat_ports(&self) -> std::ops::Range<u16> {
        let (first, count) = self.options.snat_ports;
        first..first + count
    }

    /// Forgets everything but the devices and addresses of the node.
    ///
    /// # Errors
    /// When a map does not take it; so with all that follow.
    pub fn reset(&mut self, bed: &Testbed) -> Result<()> {
        for family in Family::BOTH {
            self.forget_flows(family)?;
        }
        self.zero::<Backend>(maps::BACKENDS, ENTRIES)?;
        self.zero::<ServiceRecord>(maps::SERVICES, ENTRIES)?;
        self.zero::<u32>(maps::SLOTS, ENTRIES)?;
        self.zero::<u64>(maps::PREFILTER, u32::try_from(prefilter::WORDS)?)?;
        self.clear::<FrontendKey, FrontendValue>(maps::FRONTENDS)?;
        self.clear::<AffinityKey, AffinityValue>(maps::AFFINITY)?;
        self.forget_source_ranges()?;
        self.clear::<Addr, u32>(maps::NODE_ADDRS)?;
        for (ifindex, mac, kind, who) in [
            (bed.uplink(), Mac::Uplink, device::UPLINK, Who::Node),
            (bed.second(), Mac::Second, device::UPLINK, Who::NodeSecond),
            // A pod's device has no address of its own: packets into it take the node's.
            (bed.pod(), Mac::PodDevice, device::POD, Who::Node),
        ] {
            let flags = if kind == device::UPLINK { device::XDP_TX } else { 0 };
            let value = Device::new(mac.bytes(), kind, flags, Some(addr4(who)), Some(addr6(who)));
            self.array::<Device>(maps::DEVICES)?
                .set(ifindex, Plain(value), 0)?;
            if kind == device::UPLINK {
                let map = self.ebpf.map_mut(maps::TX_DEVICES).context("no tx_devices")?;
                DevMapHash::try_from(map)?.insert(ifindex, ifindex, None, 0)?;
            }
        }
        self.array::<Device>(maps::DEVICES)?.set(
            device::LOOPBACK_IFINDEX,
            Plain(Device::new([0; 6], device::LOOPBACK, 0, None, None)),
            0,
        )?;
        let tokens = [self.options.rejects_per_second, 0];
        let map = self
            .ebpf
            .map_mut(maps::REJECT_TOKENS)
            .context("no reject_tokens")?;
        let tokens = PerCpuValues::try_from(vec![tokens; nr_cpus().map_err(|(_, error)| error)?])?;
        PerCpuArray::<_, [u32; 2]>::try_from(map)?.set(0, tokens, 0)?;
        for who in [Who::Node, Who::NodeSecond] {
            for family in Family::BOTH {
                let value = lb_common::node_addr::NODE_PORTS;
                self.hash::<Addr, u32>(maps::NODE_ADDRS)?.insert(
                    Plain(who.ip(family).into()),
                    Plain(value),
                    0,
                )?;
                self.announce_frontend(who.ip(family).into())?;
            }
        }
        Ok(())
    }

    /// Writes services of one family, in the agent's order: backends, slots, record, frontends.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn install(&mut self, family: Family, services: &[Service]) -> Result<()> {
        let (mut backends, mut slots) = (1_u32, 0_u32);
        for (service, id) in services.iter().zip(1_u32..) {
            let mut indices = BTreeMap::new();
            let outside = service.outside.as_ref().unwrap_or(&service.inside);
            for &(who, port) in service.inside.iter().chain(outside) {
                let key = (who.ip(family), port);
                if indices.contains_key(&key) {
                    continue;
                }
                indices.insert(key, backends);
                let listed = backend::IN_CLUSTER_LIST | backend::IN_LOCAL_LIST;
                let value = Backend {
                    addr: key.0.into(),
                    generation: 2,
                    epoch: 1,
                    service: id,
                    port: Port::new(port),
                    proto: service.proto,
                    flags: listed | if is_local(who) { backend::LOCAL } else { 0 },
                };
                self.array::<Backend>(maps::BACKENDS)?
                    .set(backends, Plain(value), 0)?;
                self.announce(value.addr)?;
                backends += 1;
            }
            let mut range = |list: &[(Who, u16)]| -> Result<SlotRange> {
                let range = SlotRange {
                    offset: slots,
                    len: u32::try_from(list.len())?,
                };
                for &(who, port) in list {
                    let index = indices[&(who.ip(family), port)];
                    self.array::<u32>(maps::SLOTS)?.set(slots, Plain(index), 0)?;
                    slots += 1;
                }
                Ok(range)
            };
            let (inside, outside) = (range(&service.inside)?, range(outside)?);
            for &(who, net) in &service.sources {
                self.add_source(id, family, who, net)?;
            }
            let record = ServiceRecord {
                inside,
                outside,
                service: id,
                sources: if service.sources.is_empty() { 0 } else { id },
                affinity_seconds: service.affinity_seconds,
                flags: service.flags,
                algorithm: lb_common::service::ALGORITHM_RANDOM,
                ..ServiceRecord::default()
            };
            self.array::<ServiceRecord>(maps::SERVICES)?
                .set(id, Plain(record), 0)?;
            for &(who, port) in &service.frontends {
                let addr = match (who, family) {
                    (Some(who), _) => who.ip(family).into(),
                    (None, Family::V4) => Addr::ANY4,
                    (None, Family::V6) => Addr::ANY6,
                };
                let key = FrontendKey::new(addr, Port::new(port), service.proto);
                self.announce_frontend(addr)?;
                self.hash::<FrontendKey, FrontendValue>(maps::FRONTENDS)?.insert(
                    Plain(key),
                    Plain(FrontendValue::new(&key, id)),
                    0,
                )?;
            }
        }
        ensure!(
            backends <= ENTRIES && slots <= ENTRIES,
            "more backends than a test's maps hold"
        );
        Ok(())
    }

    /// Adds a network to a set of source ranges; a service's set has its number.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn add_source(&mut self, set: u32, family: Family, who: Who, net: Net) -> Result<()> {
        let len = match family {
            Family::V4 => net.v4,
            Family::V6 => net.v6,
        };
        let network = IpNet::new(who.ip(family), len)?.trunc();
        let key = SourceRangeKey::new(set, network.addr(), len);
        let key = Key::new(key.prefix_len, Plain(key.bits));
        Ok(self.source_ranges()?.insert(&key, Plain(set), 0)?)
    }

    /// Changes a backend.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn backend(&mut self, index: u32, change: impl FnOnce(&mut Backend)) -> Result<()> {
        let mut map = self.array::<Backend>(maps::BACKENDS)?;
        let mut value = map.get(&index, 0)?.0;
        change(&mut value);
        Ok(map.set(index, Plain(value), 0)?)
    }

    /// Changes a service's record in place: no packet is under way in a test.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn record(&mut self, index: u32, change: impl FnOnce(&mut ServiceRecord)) -> Result<()> {
        let mut map = self.array::<ServiceRecord>(maps::SERVICES)?;
        let mut value = map.get(&index, 0)?.0;
        change(&mut value);
        Ok(map.set(index, Plain(value), 0)?)
    }

    /// Changes what affinity remembers, of all clients.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn affinity(&mut self, mut change: impl FnMut(&mut AffinityValue)) -> Result<()> {
        let mut map = self.hash::<AffinityKey, AffinityValue>(maps::AFFINITY)?;
        let all = map.iter().collect::<Result<Vec<_>, _>>()?;
        for (key, mut value) in all {
            change(&mut value.0);
            map.insert(key, value, 0)?;
        }
        Ok(())
    }

    /// Every flow entry of a family.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn flows(&mut self, family: Family) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        self.each_flow(family, |flow| {
            flows.push(*flow);
            Keep::Unchanged
        })?;
        Ok(flows)
    }

    /// Shows every flow entry, and keeps, changes or removes it as `visit` says.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn each_flow(&mut self, family: Family, mut visit: impl FnMut(&Flow) -> Keep) -> Result<()> {
        let buckets = self.options.flow_buckets;
        // One body for two bucket types.
        macro_rules! visit_all {
            ($map:expr, $bucket:ty) => {{
                let mut map = self.array::<$bucket>($map)?;
                for index in 0..buckets {
                    let mut bucket = map.get(&index, 0)?.0;
                    let mut changed = false;
                    for place in 0..WAYS {
                        let Some(flow) = Flow::read(&bucket[place]) else {
                            continue;
                        };
                        match visit(&flow) {
                            Keep::Unchanged => continue,
                            Keep::With(state) => state.write(&mut bucket[place]),
                            Keep::TakenBack => bucket[place].proto = TOMBSTONE,
                            Keep::Not => bucket[place] = bytemuck::Zeroable::zeroed(),
                        }
                        changed = true;
                    }
                    if changed {
                        map.set(index, Plain(bucket), 0)?;
                    }
                }
            }};
        }
        match family {
            Family::V4 => visit_all!(maps::FLOWS4, Bucket4),
            Family::V6 => visit_all!(maps::FLOWS6, Bucket6),
        }
        Ok(())
    }

    /// Lets `seconds` pass for every flow.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn age_flows(&mut self, family: Family, seconds: u32) -> Result<()> {
        self.each_flow(family, |flow| {
            Keep::With(State {
                last: flow.state.last.wrapping_sub(seconds * HZ),
                ..flow.state
            })
        })
    }

    /// The flow table of a family as it is in the kernel's memory.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn table(&self, family: Family) -> Result<Table> {
        let name = match family {
            Family::V4 => maps::FLOWS4,
            Family::V6 => maps::FLOWS6,
        };
        match self.ebpf.map(name) {
            Some(Map::Array(map)) => Table::open(map, family, self.options.flow_buckets),
            _ => Err(anyhow!("no array {name}")),
        }
    }

    /// The two buckets a tuple may stand in.
    ///
    /// # Panics
    /// When the addresses are of different families.
    #[must_use]
    pub fn buckets_of(&self, proto: u8, src: SocketAddr, dst: SocketAddr) -> (u32, u32) {
        let ports = u32::from(src.port().to_be()) | u32::from(dst.port().to_be()) << 16;
        let hash = match (src.ip(), dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                tuple4(&SEED, Addr4::from(src).0, Addr4::from(dst).0, ports, proto)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                tuple6(&SEED, &Addr6::from(src).0, &Addr6::from(dst).0, ports, proto)
            }
            _ => panic!("{src} and {dst} are of different families"),
        };
        let mask = self.options.flow_buckets - 1;
        (first_bucket(hash, mask), second_bucket(hash, mask))
    }

    /// Buckets of a family whose lock is taken.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn locked_buckets(&mut self, family: Family) -> Result<Vec<u32>> {
        let buckets = self.options.flow_buckets;
        let locks = self.array::<u32>(locks(family))?;
        let mut locked = Vec::new();
        for bucket in 0..buckets {
            if locks.get(&bucket, 0)?.0 != 0 {
                locked.push(bucket);
            }
        }
        Ok(locked)
    }

    /// Takes a bucket's lock as if another CPU held it, or gives it back.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn lock_bucket(&mut self, family: Family, bucket: u32, taken: bool) -> Result<()> {
        let mut locks = self.array::<u32>(locks(family))?;
        Ok(locks.set(bucket, Plain(u32::from(taken)), 0)?)
    }

    /// Gives a frontend a value, be it another key's.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn set_frontend(&mut self, key: FrontendKey, value: FrontendValue) -> Result<()> {
        let mut map = self.hash::<FrontendKey, FrontendValue>(maps::FRONTENDS)?;
        Ok(map.insert(Plain(key), Plain(value), 0)?)
    }

    /// Clears every bit of the prefilter.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn forget_prefilter(&mut self) -> Result<()> {
        self.zero::<u64>(maps::PREFILTER, u32::try_from(prefilter::WORDS)?)
    }

    /// From now on no device is known to take XDP frames.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn forbid_transmit(&mut self) -> Result<()> {
        let map = self.ebpf.map_mut(maps::TX_DEVICES).context("no tx_devices")?;
        let mut devices = DevMapHash::try_from(map)?;
        let indices = devices.keys().collect::<Result<Vec<_>, _>>()?;
        indices
            .into_iter()
            .try_for_each(|ifindex| anyhow::Ok(devices.remove(ifindex)?))
    }

    /// Empties the flow table of a family.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn forget_flows(&mut self, family: Family) -> Result<()> {
        let buckets = self.options.flow_buckets;
        match family {
            Family::V4 => self.zero::<Bucket4>(maps::FLOWS4, buckets),
            Family::V6 => self.zero::<Bucket6>(maps::FLOWS6, buckets),
        }
    }

    /// How often each reason was counted.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn reasons(&mut self) -> Result<BTreeMap<Reason, u64>> {
        let map = self.ebpf.map_mut(maps::REASONS).context("no map reasons")?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        let sum = |reason: Reason| anyhow::Ok((reason, map.get(&(reason as u32), 0)?.iter().sum()));
        Reason::ALL.iter().map(|reason| sum(*reason)).collect()
    }

    /// Sets the prefilter's bits for a frontend at an address.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn announce_frontend(&mut self, addr: Addr) -> Result<()> {
        self.announce(addr)?;
        self.set_bit(prefilter::frontend_bit(prefilter::bit(addr)))
    }

    /// Counts reasons from zero again.
    ///
    /// # Errors
    /// See [`Self::reset`].
    pub fn forget_reasons(&mut self) -> Result<()> {
        let map = self.ebpf.map_mut(maps::REASONS).context("no map reasons")?;
        let mut map: PerCpuArray<_, u64> = PerCpuArray::try_from(map)?;
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        Reason::ALL
            .iter()
            .try_for_each(|reason| Ok(map.set(*reason as u32, PerCpuValues::try_from(vec![0; cpus])?, 0)?))
    }

    fn announce(&mut self, addr: Addr) -> Result<()> {
        self.set_bit(prefilter::bit(addr))
    }

    fn set_bit(&mut self, bit: u32) -> Result<()> {
        let (word, bit) = prefilter::place(bit);
        let mut map = self.array::<u64>(maps::PREFILTER)?;
        let value = map.get(&word, 0)?.0;
        Ok(map.set(word, Plain(value | bit), 0)?)
    }

    fn array<T: bytemuck::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, Plain<T>>> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?;
        Array::try_from(map).with_context(|| format!("map {name}"))
    }

    fn source_ranges(&mut self) -> Result<SourceRanges<'_>> {
        let map = self
            .ebpf
            .map_mut(maps::SOURCE_RANGES)
            .context("no source_ranges")?;
        Ok(map.try_into()?)
    }

    fn forget_source_ranges(&mut self) -> Result<()> {
        let mut map = self.source_ranges()?;
        let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
        for key in &keys {
            map.remove(key)?;
        }
        Ok(())
    }

    fn hash<K: bytemuck::Pod, V: bytemuck::Pod>(
        &mut self,
        name: &str,
    ) -> Result<HashMap<&mut MapData, Plain<K>, Plain<V>>> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?;
        HashMap::try_from(map).with_context(|| format!("map {name}"))
    }

    fn zero<T: bytemuck::Pod>(&mut self, name: &str, entries: u32) -> Result<()> {
        let mut map = self.array::<T>(name)?;
        (0..entries).try_for_each(|index| anyhow::Ok(map.set(index, Plain(T::zeroed()), 0)?))
    }

    fn clear<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, name: &str) -> Result<()> {
        let mut map = self.hash::<K, V>(name)?;
        let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
        keys.iter().try_for_each(|key| anyhow::Ok(map.remove(key)?))
    }
}

/// What becomes of a visited flow entry.
#[derive(Debug, Clone, Copy)]
pub enum Keep {
    /// It stays as it is.
    Unchanged,
    /// It stays with another state.
    With(State),
    /// It is taken back, as the programs do it.
    TakenBack,
    /// It goes, and its place looks as if it had never been used.
    Not,
}

fn locks(family: Family) -> &'static str {
    match family {
        Family::V4 => maps::LOCKS4,
        Family::V6 => maps::LOCKS6,
    }
}

fn addr4(who: Who) -> Addr4 {
    Addr4(Addr::from(who.ip(Family::V4)).0[3])
}

fn addr6(who: Who) -> Addr6 {
    Addr6(Addr::from(who.ip(Family::V6)).0)
}
