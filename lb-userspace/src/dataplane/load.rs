//! Loading the kernel programs onto their maps, new or pinned.
//!
//! Owns: the order of a start. What is already attached goes on with the old programs until its links are updated
//! ([`super::attach`]); the tables of tail calls, which old and new programs share, are switched when all new programs are in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use aya::maps::{Map, MapData, ProgramArray};
use aya::programs::{Program, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use lb_common::hash::Seed;
use lb_common::layout::{self, Stage, globals, maps, programs};
use lb_common::lifetime::Timeouts;
use lb_common::net::{self, Net4, Net6};
use lb_common::settings::Settings;

use super::declared::{self, Definition};
use super::error::DataplaneError;
use super::jiffies::{self, Sample};
use super::log::{self, KernelLog};
use super::mapped::Mapped;
use super::pins::{Lock, Pins};
use super::reader::Reader;
use super::sizes::Sizes;
use super::typed::AsPod;
use super::{bpffs, kernel};

/// The kernel programs, built by the build script.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// How tc programs are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcHook {
    /// Through tcx where the kernel has it (6.6), else as filters of a clsact qdisc.
    #[default]
    Auto,
    /// As filters of a clsact qdisc.
    Clsact,
}

/// How a dataplane is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the pins.
    pub bpffs: PathBuf,
    /// Sizes of maps that do not exist yet.
    pub sizes: Sizes,
    /// Seed of the flow table's hash if none exists yet; random by default.
    pub seed: Option<Seed>,
    /// Ports that rewritten sources take.
    pub snat_ports: RangeInclusive<u16>,
    /// Idle times of flows, in seconds.
    pub timeouts: Timeouts,
    /// RSTs and ICMP errors a second and CPU.
    pub rejects_per_second: u32,
    /// The range ClusterIPs are taken from, IPv4: what leaves the node for one that nobody serves is dropped.
    pub service_net4: Net4,
    /// The same for IPv6.
    pub service_net6: Net6,
    /// The range of the cluster's pods, IPv4: whoever has an address of it is a pod, wherever he comes in.
    pub cluster_net4: Net4,
    /// The same for IPv6.
    pub cluster_net6: Net6,
    /// Level of the kernel programs' own log; none by default.
    pub log_level: Option<tracing::Level>,
    /// How tc programs are attached.
    pub tc_hook: TcHook,
}

impl Options {
    /// Defaults under a directory of pins.
    #[must_use]
    pub fn new(bpffs: impl Into<PathBuf>) -> Self {
        Self {
            bpffs: bpffs.into(),
            sizes: Sizes::default(),
            seed: None,
            snat_ports: 61_000..=65_535,
            timeouts: Timeouts::SECONDS,
            rejects_per_second: 1000,
            service_net4: net::NONE4,
            service_net6: net::NONE6,
            cluster_net4: net::NONE4,
            cluster_net6: net::NONE6,
            log_level: None,
            tc_hook: TcHook::Auto,
        }
    }
}

/// The loaded programs and their maps, held by the one process that may write them. Dropping it leaves everything that is
/// pinned at work.
#[derive(Debug)]
pub struct Dataplane {
    pub(super) ebpf: Ebpf,
    pub(super) pins: Pins,
    pub(super) tcx: bool,
    /// Numbers of the devices that have an entry in `devices`.
    pub(super) described: BTreeSet<u32>,
    settings: Settings,
    sizes: Sizes,
    log: bool,
    _lock: Lock,
}

impl Dataplane {
    /// Loads the programs onto the maps pinned under `options.bpffs`, making what is not there. What exists keeps its
    /// content, seed and sizes.
    ///
    /// # Errors
    /// The kernel is too old, another process works here, a pinned map does not fit, or the kernel refuses.
    pub fn open_or_create(options: &Options) -> Result<Self, DataplaneError> {
        kernel::check()?;
        bpffs::ensure(&options.bpffs)?;
        let pins = Pins::new(&options.bpffs);
        let lock = pins.lock()?;
        pins.create()?;

        let mut sizes = options.sizes;
        sizes.check()?;
        sizes.adopt_pinned(&pins)?;
        let mut definitions = declared::maps(OBJECT)?;
        sizes.apply(definitions.iter_mut())?;
        for (name, definition) in &definitions {
            declared::check(&pins, name, definition)?;
        }

        let settings = settle(options, &sizes, &pins, &definitions)?;
        let log_level = options.log_level.map_or(log::OFF, log::number);
        let mut ebpf = load(&pins, &definitions, &Globals::new(&settings, options, log_level))?;
        load_programs(&mut ebpf)?;
        switch_stages(&mut ebpf, maps::XDP_STAGES, |(stage, xdp, _)| (stage, xdp))?;
        switch_stages(&mut ebpf, maps::TC_STAGES, |(stage, _, tc)| (stage, tc))?;

        Ok(Self {
            ebpf,
            described: Reader::new(pins.clone())
                .devices()?
                .into_iter()
                .map(|(ifindex, _)| ifindex)
                .collect(),
            tcx: options.tc_hook == TcHook::Auto && kernel::has_tcx()?,
            pins,
            settings,
            sizes,
            log: options.log_level.is_some(),
            _lock: lock,
        })
    }

    /// What this installation works with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The sizes its maps have.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The kernel programs' log, where a level was asked for and they have log lines; once, inside a tokio runtime.
    ///
    /// # Errors
    /// The log buffer cannot be watched.
    pub fn kernel_log(&mut self) -> Result<Option<KernelLog>, DataplaneError> {
        if std::mem::take(&mut self.log) {
            KernelLog::new(&mut self.ebpf)
        } else {
            Ok(None)
        }
    }

    /// A program by its name.
    pub(super) fn program(&mut self, name: &str) -> Result<&mut Program, DataplaneError> {
        self.ebpf
            .program_mut(name)
            .ok_or_else(|| DataplaneError::Missing(format!("program {name}")))
    }
}

/// Settles what this installation works with, and writes it down: seed, sizes and clock as they were, the rest as asked.
fn settle(
    options: &Options,
    sizes: &Sizes,
    pins: &Pins,
    definitions: &BTreeMap<String, Definition>,
) -> Result<Settings, DataplaneError> {
    let existing = if pins.map(maps::SETTINGS).exists() {
        Some(read_settings(pins)?).filter(|s| s.layout == layout::VERSION)
    } else {
        None
    };
    let (seed, hz, jiffies, monotonic_ns) = match &existing {
        Some(s) => {
            if options.seed.is_some_and(|seed| seed != s.seed) {
                tracing::warn!("keeping the flow table's seed: another one would lose every flow");
            }
            (s.seed, s.hz, s.jiffies, s.monotonic_ns)
        }
        None => {
            let seed = options.seed.map_or_else(random_seed, Ok)?;
            let (hz, sample) = measure_ticks(pins, definitions)?;
            let monotonic_ns = sample.before.midpoint(sample.after);
            (seed, hz, sample.jiffies, monotonic_ns)
        }
    };
    let (first, last) = (*options.snat_ports.start(), *options.snat_ports.end());
    if first == 0 || first > last {
        return Err(DataplaneError::Refused(format!(
            "SNAT ports {first}-{last}: a range of ports other than 0 is needed"
        )));
    }
    let settings = Settings {
        layout: layout::VERSION,
        hz,
        jiffies,
        monotonic_ns,
        seed,
        flow4_buckets: sizes.flow4_buckets,
        flow6_buckets: sizes.flow6_buckets,
        snat_port_first: first,
        // A range from 1 at least has at most 65,535 ports.
        snat_port_count: last - first + 1,
        timeouts: options.timeouts,
        rejects_per_second: options.rejects_per_second,
    };
    if !settings_memory(pins)?.set(0, &settings) {
        return Err(DataplaneError::Missing("entry in map settings".to_owned()));
    }
    Ok(settings)
}

/// The pinned settings as they stand.
pub(super) fn read_settings(pins: &Pins) -> Result<Settings, DataplaneError> {
    settings_memory(pins)?
        .view()
        .get(0)
        .ok_or_else(|| DataplaneError::Missing("entry in map settings".to_owned()))
}

fn settings_memory(pins: &Pins) -> Result<Mapped<Settings>, DataplaneError> {
    let map = MapData::from_pin(pins.map(maps::SETTINGS)).map_err(DataplaneError::map(maps::SETTINGS))?;
    Mapped::open(&map, maps::SETTINGS)
}

fn random_seed() -> Result<Seed, DataplaneError> {
    let mut seed = Seed::default();
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(bytemuck::bytes_of_mut(&mut seed)))
        .map_err(DataplaneError::io("reading /dev/urandom"))?;
    Ok(seed)
}

/// Measures the tick rate with a program of the object, loaded for that alone: the others have the rate built in.
fn measure_ticks(
    pins: &Pins,
    definitions: &BTreeMap<String, Definition>,
) -> Result<(u32, Sample), DataplaneError> {
    let mut ebpf = load(pins, definitions, &Globals::default())?;
    let program = ebpf
        .program_mut(programs::READ_JIFFIES)
        .ok_or_else(|| DataplaneError::Missing(format!("program {}", programs::READ_JIFFIES)))?;
    load_program(programs::READ_JIFFIES, program)?;
    let settings = settings_memory(pins)?;
    jiffies::measure(|| {
        let before = jiffies::monotonic_ns()?;
        run_once(programs::READ_JIFFIES, program)?;
        let after = jiffies::monotonic_ns()?;
        let jiffies = settings.view().get(0).map_or(0, |s| s.jiffies);
        Ok(Sample {
            before,
            jiffies,
            after,
        })
    })
}

/// Runs a program on an empty frame.
fn run_once(name: &str, program: &Program) -> Result<(), DataplaneError> {
    let frame = [0_u8; 64];
    let mut options = TestRunOptions::new();
    options.data_in = Some(&frame);
    match program {
        Program::Xdp(p) => p.test_run(options),
        Program::SchedClassifier(p) => p.test_run(options),
        _ => return Err(DataplaneError::Missing(format!("XDP or tc program {name}"))),
    }
    .map_err(DataplaneError::program(name))?;
    Ok(())
}

/// The values built into the programs at load.
#[derive(Debug)]
struct Globals {
    seed: AsPod<Seed>,
    flow4_mask: u32,
    flow6_mask: u32,
    hz: u32,
    fresh_for: u32,
    timeouts: AsPod<Timeouts>,
    snat_ports: u32,
    rejects_per_second: u32,
    service_net4: Net4,
    service_net6: Net6,
    cluster_net4: Net4,
    cluster_net6: Net6,
    log_level: u8,
}

impl Globals {
    fn new(settings: &Settings, options: &Options, log_level: u8) -> Self {
        Self {
            seed: AsPod(settings.seed),
            flow4_mask: settings.flow4_buckets - 1,
            flow6_mask: settings.flow6_buckets - 1,
            hz: settings.hz,
            // The hot program has no trace: with one, every packet takes the full stage.
            fresh_for: if log_level >= log::number(tracing::Level::DEBUG) {
                0
            } else {
                settings.hz
            },
            timeouts: AsPod(settings.timeouts.in_jiffies(settings.hz)),
            snat_ports: u32::from(settings.snat_port_first) | u32::from(settings.snat_port_count) << 16,
            rejects_per_second: settings.rejects_per_second,
            service_net4: options.service_net4,
            service_net6: options.service_net6,
            cluster_net4: options.cluster_net4,
            cluster_net6: options.cluster_net6,
            log_level,
        }
    }

    fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global(globals::SEED, &self.seed, true)
            .override_global(globals::FLOW4_MASK, &self.flow4_mask, true)
            .override_global(globals::FLOW6_MASK, &self.flow6_mask, true)
            .override_global(globals::HZ, &self.hz, true)
            .override_global(globals::FRESH_FOR, &self.fresh_for, true)
            .override_global(globals::TIMEOUTS, &self.timeouts, true)
            .override_global(globals::SNAT_PORTS, &self.snat_ports, true)
            .override_global(globals::REJECTS_PER_SECOND, &self.rejects_per_second, true)
            .override_global(globals::SERVICE_NET4, &self.service_net4, true)
            .override_global(globals::SERVICE_NET6, &self.service_net6, true)
            .override_global(globals::CLUSTER_NET4, &self.cluster_net4, true)
            .override_global(globals::CLUSTER_NET6, &self.cluster_net6, true)
            .override_global(globals::LOG_LEVEL, &self.log_level, true);
    }
}

impl Default for Globals {
    /// For the program that measures: it looks at none of them.
    fn default() -> Self {
        Self {
            seed: AsPod(Seed::default()),
            flow4_mask: 0,
            flow6_mask: 0,
            hz: 0,
            fresh_for: 0,
            timeouts: AsPod(Timeouts::SECONDS),
            snat_ports: 0,
            rejects_per_second: 0,
            service_net4: net::NONE4,
            service_net6: net::NONE6,
            cluster_net4: net::NONE4,
            cluster_net6: net::NONE6,
            log_level: log::OFF,
        }
    }
}

/// Makes or opens the maps and prepares the programs.
fn load(
    pins: &Pins,
    definitions: &BTreeMap<String, Definition>,
    globals: &Globals,
) -> Result<Ebpf, DataplaneError> {
    let mut loader = EbpfLoader::new();
    // The programs use no kernel type, so the kernel's own type information need not be read.
    loader.btf(None);
    // Should a program be refused, aya has it verified again for the reason. The whole way there, a hundred times slower, is
    // for who debugs.
    if !tracing::enabled!(tracing::Level::DEBUG) {
        loader.verifier_log_level(VerifierLogLevel::STATS);
    }
    for (name, definition) in definitions {
        loader
            .map_max_entries(name, definition.max_entries)
            .map_pin_path(name, pins.map(name));
    }
    globals.apply(&mut loader);
    Ok(loader.load(OBJECT).map_err(Box::new)?)
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), DataplaneError> {
    for (name, program) in ebpf.programs_mut() {
        load_program(name, program)?;
    }
    Ok(())
}

fn load_program(name: &str, program: &mut Program) -> Result<(), DataplaneError> {
    match program {
        Program::Xdp(p) => p.load(),
        Program::SchedClassifier(p) => p.load(),
        _ => return Err(DataplaneError::Missing(format!("XDP or tc program {name}"))),
    }
    .map_err(DataplaneError::program(name))
}

/// Points the tail calls at the new programs, one after the other: each is valid beside the others' old ones, because one
/// layout version means one meaning of what they hand over.
fn switch_stages(
    ebpf: &mut Ebpf,
    map: &str,
    name: impl Fn((Stage, &'static str, &'static str)) -> (Stage, &'static str),
) -> Result<(), DataplaneError> {
    let taken = ebpf
        .take_map(map)
        .ok_or_else(|| DataplaneError::Missing(format!("map {map}")))?;
    let mut stages: ProgramArray<MapData> =
        ProgramArray::try_from(taken as Map).map_err(DataplaneError::map(map))?;
    for entry in Stage::ALL {
        let (stage, program) = name(entry);
        let fd = ebpf
            .program(program)
            .ok_or_else(|| DataplaneError::Missing(format!("program {program}")))?
            .fd()
            .map_err(DataplaneError::program(program))?;
        stages
            .set(stage as u32, fd, 0)
            .map_err(DataplaneError::map(map))?;
    }
    Ok(())
}
