//! The dataplane on a real kernel: its own directory of pins, its own network namespace. Needs root.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use lb_common::addr::Addr;
use lb_common::backend::Backend;
use lb_common::device;
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::hash::Seed;
use lb_common::layout::{Stage, maps};
use lb_common::name::{Name, TEXT_LEN};
use lb_common::node_addr::NODE_PORTS;
use lb_common::port::Port;
use lb_common::protocol::TCP;
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, SlotRange};
use lb_common::source_range::SourceRangeKey;
use lb_userspace::dataplane::{
    Dataplane, DataplaneError, Hook, KernelLog, KernelMaps, Options, Reader, Role, Sizes, Target, TcHook,
    XdpAttach, cleanup,
};
use lb_userspace::reconcile::maps::{FlowQuery, MapError, ServiceMaps};

/// A directory of pins that is removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(PathBuf::from(format!(
            "/sys/fs/bpf/xvip-test-{}-{number}",
            std::process::id()
        )))
    }

    fn options(&self) -> Options {
        let mut options = Options::new(&self.0);
        options.sizes = SMALL;
        options.seed = Some(SEED);
        options
    }

    fn open(&self) -> Dataplane {
        Dataplane::open_or_create(&self.options()).unwrap()
    }

    fn names(&self, directory: &str) -> BTreeSet<String> {
        fs::read_dir(self.0.join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = cleanup(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

const SMALL: Sizes = Sizes {
    flow4_buckets: 64,
    flow6_buckets: 32,
    frontends: 2,
    records: 16,
    slots: 32,
    backends: 16,
    services: 8,
    affinity: 64,
    source_ranges: 4,
};

const SEED: Seed = Seed([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn key(port: u16) -> FrontendKey {
    FrontendKey::new(addr("10.96.0.1"), Port::new(port), TCP)
}

fn backend(port: u16) -> Backend {
    Backend {
        addr: addr("2001:db8::7"),
        generation: 4,
        epoch: 2,
        service: 1,
        port: Port::new(port),
        proto: TCP,
        flags: 0,
    }
}

fn name(text: &str) -> Name {
    let mut name = Name {
        text: [0; TEXT_LEN],
        port: Port::new(80).0,
        proto: TCP,
        family: 4,
    };
    name.text[..text.len()].copy_from_slice(text.as_bytes());
    name
}

const RECORD: ServiceRecord = ServiceRecord {
    inside: SlotRange { offset: 4, len: 3 },
    outside: SlotRange { offset: 4, len: 3 },
    service: 1,
    affinity_seconds: 0,
    flags: 0,
    algorithm: 0,
    pad: [0; 3],
    sources: 0,
    reserved: [0; 7],
};

#[test]
fn a_fresh_installation_is_complete_and_measures_the_clock() {
    let scratch = Scratch::new();
    let dataplane = scratch.open();
    let settings = *dataplane.settings();
    assert_eq!(settings.seed, SEED);
    assert!([100, 250, 300, 1000].contains(&settings.hz), "{}", settings.hz);
    assert_ne!(settings.jiffies, 0);
    assert_eq!(settings.flow4_buckets, 64);
    assert_eq!(*dataplane.sizes(), SMALL);

    // The command line needs nothing but the directory.
    let reader = Reader::open(&scratch.0).unwrap();
    assert_eq!(reader.settings().unwrap(), settings);
    assert_eq!(reader.sizes().unwrap(), SMALL);
    assert_eq!(reader.flows4().unwrap().capacity(), 64 * 4);
    assert_eq!(reader.flows6().unwrap().iter().count(), 0);
    assert!(reader.devices().unwrap().is_empty());
    assert!(reader.affinity().unwrap().is_empty());
    assert_eq!(reader.reasons().unwrap().len(), Reason::ALL.len());
    // Every tail call has its program.
    for map in [maps::XDP_STAGES, maps::TC_STAGES] {
        assert_eq!(reader.stages(map).unwrap().len(), Stage::ALL.len(), "{map}");
    }
    assert!(reader.locks(maps::LOCKS4).unwrap().is_empty());
}

#[test]
fn a_restart_keeps_seed_sizes_clock_and_content() {
    let scratch = Scratch::new();
    let first = scratch.open();
    let before = *first.settings();
    let mut maps = first.service_maps().unwrap();
    maps.write_backend(3, &backend(8080)).unwrap();
    maps.write_slots(4, &[3, 3, 3]).unwrap();
    maps.write_record(2, &RECORD).unwrap();
    maps.put_name(1, &name("default/web:http")).unwrap();
    maps.set_prefilter_bit(77).unwrap();
    maps.put_frontend(&key(80), FrontendValue::new(&key(80), 2))
        .unwrap();
    drop((maps, first));

    let mut options = scratch.options();
    options.seed = Some(Seed([9; 10]));
    options.sizes.flow4_buckets = 128;
    options.sizes.backends = 4;
    options.snat_ports = 50_000..=50_009;
    let second = Dataplane::open_or_create(&options).unwrap();
    let after = *second.settings();
    assert_eq!(after.seed, SEED, "another seed would lose every flow");
    assert_eq!((after.hz, after.jiffies), (before.hz, before.jiffies));
    assert_eq!(after.flow4_buckets, 64);
    assert_eq!(*second.sizes(), SMALL);
    assert_eq!((after.snat_port_first, after.snat_port_count), (50_000, 10));

    let maps = second.service_maps().unwrap();
    assert_eq!(maps.capacities().backends, 16);
    assert_eq!(maps.read_backends().unwrap(), [(3, backend(8080))]);
    assert_eq!(maps.read_records().unwrap(), [(2, RECORD)]);
    assert_eq!(maps.read_slots(RECORD.inside).unwrap(), [3, 3, 3]);
    assert_eq!(maps.read_names().unwrap(), [(1, name("default/web:http"))]);
    assert_eq!(maps.read_prefilter().unwrap(), BTreeSet::from([77]));
    assert_eq!(
        maps.read_frontends().unwrap(),
        [(key(80), FrontendValue::new(&key(80), 2))]
    );
}

#[test]
fn service_maps_do_what_the_reconciler_asks() {
    let scratch = Scratch::new();
    let dataplane = scratch.open();
    let mut maps = dataplane.service_maps().unwrap();

    for port in [80, 81] {
        maps.put_frontend(&key(port), FrontendValue::new(&key(port), 1))
            .unwrap();
    }
    let full = maps.put_frontend(&key(82), FrontendValue::new(&key(82), 1));
    assert!(
        matches!(full, Err(MapError::Full { map: "frontends" })),
        "{full:?}"
    );
    maps.put_frontend(&key(81), FrontendValue::new(&key(81), 9))
        .unwrap();
    maps.delete_frontend(&key(80)).unwrap();
    maps.delete_frontend(&key(80)).unwrap();
    assert_eq!(
        maps.read_frontends().unwrap(),
        [(key(81), FrontendValue::new(&key(81), 9))]
    );

    maps.delete_name(5).unwrap();
    maps.clear_stats(7).unwrap();
    assert!(maps.clear_stats(8).is_err(), "one past the end");

    assert!(maps.write_slots(31, &[1, 2]).is_err(), "half outside");
    let untouched = SlotRange { offset: 31, len: 1 };
    assert_eq!(
        maps.read_slots(untouched).unwrap(),
        [0],
        "a write that fails changes nothing"
    );
    assert!(maps.write_backend(16, &backend(1)).is_err());
    assert!(maps.write_record(16, &RECORD).is_err());

    for bit in [0, 63, 64] {
        maps.set_prefilter_bit(bit).unwrap();
    }
    maps.clear_prefilter_bit(63).unwrap();
    assert_eq!(maps.read_prefilter().unwrap(), BTreeSet::from([0, 64]));

    let query = FlowQuery {
        backends: BTreeSet::from([1, 2]),
        prefilter_bits: BTreeSet::from([3]),
    };
    assert_eq!(maps.flows_naming(&query).unwrap(), FlowQuery::default());
}

#[test]
fn source_ranges_are_kept_by_set_and_network() {
    let scratch = Scratch::new();
    let dataplane = scratch.open();
    let mut maps = dataplane.service_maps().unwrap();
    let range = |set, network: &str, len| SourceRangeKey::new(set, network.parse().unwrap(), len);
    // One inside the other, the same in another set, and the other family's.
    let mut wanted = BTreeSet::from([
        (range(1, "10.0.0.0", 8), 7),
        (range(1, "10.1.0.0", 16), 7),
        (range(2, "10.0.0.0", 8), 8),
        (range(2, "2001:db8::", 32), 8),
    ]);
    for (key, owner) in &wanted {
        maps.put_source_range(key, *owner).unwrap();
        maps.put_source_range(key, *owner).unwrap();
    }
    let read = |maps: &KernelMaps| maps.read_source_ranges().unwrap().into_iter().collect();
    assert_eq!(wanted, read(&maps));
    let full = maps.put_source_range(&range(3, "192.0.2.0", 24), 9);
    assert!(
        matches!(full, Err(MapError::Full { map: "source_ranges" })),
        "{full:?}"
    );
    for _ in 0..2 {
        maps.delete_source_range(&range(1, "10.0.0.0", 8)).unwrap();
    }
    wanted.remove(&(range(1, "10.0.0.0", 8), 7));
    assert_eq!(wanted, read(&maps));
    drop((maps, dataplane));

    let maps = scratch.open().service_maps().unwrap();
    assert_eq!(wanted, read(&maps), "a restart keeps them");
}

#[test]
fn node_addresses_are_made_what_is_asked_for() {
    let scratch = Scratch::new();
    let mut dataplane = scratch.open();
    let (a, b, c) = (addr("192.0.2.1"), addr("192.0.2.2"), addr("2001:db8::1"));
    dataplane.set_node_addrs([(a, NODE_PORTS), (b, 0)]).unwrap();
    dataplane.set_node_addrs([(a, 0), (c, NODE_PORTS)]).unwrap();
    let found = Reader::open(&scratch.0).unwrap().node_addrs().unwrap();
    assert_eq!(
        found.into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([(a, 0), (c, NODE_PORTS)])
    );
}

#[test]
fn a_second_agent_is_turned_away() {
    let scratch = Scratch::new();
    let _first = scratch.open();
    for error in [
        Dataplane::open_or_create(&scratch.options()).unwrap_err(),
        cleanup(&scratch.0).unwrap_err(),
    ] {
        assert!(matches!(error, DataplaneError::InUse { .. }), "{error}");
    }
}

#[test]
fn a_pinned_map_of_another_shape_is_refused_by_name() {
    let scratch = Scratch::new();
    drop(scratch.open());
    // What another version might have left: the names' map where the backends should be.
    let maps = scratch.0.join("v1/maps");
    fs::remove_file(maps.join("backends")).unwrap();
    fs::rename(maps.join("settings"), maps.join("backends")).unwrap();

    let error = Dataplane::open_or_create(&scratch.options())
        .unwrap_err()
        .to_string();
    for part in ["maps/backends", "value size is 104, expected 32", "xvip cleanup"] {
        assert!(error.contains(part), "{part:?} in: {error}");
    }
    assert!(maps.join("backends").exists(), "it is left as it is");
}

#[test]
fn tables_that_belong_together_must_have_one_size() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let maps = scratch.0.join("v1/maps");
    fs::remove_file(maps.join("locks4")).unwrap();
    fs::rename(maps.join("locks6"), maps.join("locks4")).unwrap();
    let error = Dataplane::open_or_create(&scratch.options())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("locks4") && error.contains("is 32, expected 64"),
        "{error}"
    );
}

#[test]
fn impossible_options_are_refused_before_anything_is_made() {
    let scratch = Scratch::new();
    let mut options = scratch.options();
    options.sizes.flow4_buckets = 100;
    let error = Dataplane::open_or_create(&options).unwrap_err().to_string();
    assert!(error.contains("100 buckets"), "{error}");
    assert!(scratch.names("").is_empty() || scratch.names("v1/maps").is_empty());

    let dotted = Options::new(scratch.0.join("a.b"));
    let error = Dataplane::open_or_create(&dotted).unwrap_err().to_string();
    assert!(error.contains("no names with a dot"), "{error}");
}

#[test]
fn without_an_installation_the_reader_says_so() {
    let scratch = Scratch::new();
    let error = Reader::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("is the agent running"), "{error}");
}

#[test]
fn cleanup_removes_everything_of_every_layout_and_may_be_repeated() {
    let scratch = Scratch::new();
    drop(scratch.open());
    fs::create_dir_all(scratch.0.join("v0/maps")).unwrap();
    let removed = cleanup(&scratch.0).unwrap();
    assert!(removed.maps.contains(&"v1/maps/flows4".to_owned()), "{removed:?}");
    assert!(!scratch.0.exists(), "{removed:?}");
    assert!(cleanup(&scratch.0).unwrap().is_empty());
}

/// A thread in a network namespace of its own, with a veth pair `up0`–`far0`.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add up0 type veth peer name far0");
        ip("link set up0 up");
        ip("link set far0 up");
        test();
    })
    .join()
    .unwrap();
}

fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn target(name: &str, role: Role) -> Target {
    Target {
        ifindex: nix::net::if_::if_nametoindex(name).unwrap(),
        name: name.to_owned(),
        role,
        mac: [2, 0, 0, 0, 0, 1],
        addr4: Some(std::net::Ipv4Addr::new(192, 0, 2, 1).into()),
        addr6: None,
        xdp_transmit: matches!(role, Role::Uplink(XdpAttach::Native)),
    }
}

fn hooks(dataplane: &Dataplane) -> Vec<Hook> {
    dataplane
        .attached()
        .unwrap()
        .into_iter()
        .map(|p| p.hook)
        .collect()
}

#[test]
fn a_device_is_attached_changed_replaced_and_detached() {
    in_namespace(|| {
        let scratch = Scratch::new();
        let mut dataplane = scratch.open();
        let reader = Reader::open(&scratch.0).unwrap();
        let native = target("up0", Role::Uplink(XdpAttach::Native));
        dataplane.attach(&native).unwrap();
        assert_eq!(
            hooks(&dataplane),
            [Hook::XdpNative, Hook::TcIngress, Hook::TcEgress]
        );
        let (ifindex, entry) = reader.devices().unwrap()[0];
        assert_eq!(ifindex, native.ifindex);
        assert_eq!((entry.kind(), entry.flags()), (device::UPLINK, device::XDP_TX));
        assert_eq!(entry.mac(), native.mac);
        assert_eq!(reader.tx_devices().unwrap(), [(ifindex, ifindex)].into());
        assert!(ip("link show up0").contains("prog/xdp id"));

        // A restart: the links stay attached throughout, with the new programs.
        let pinned = scratch.names("v1/links");
        let old_program = program_of(&ip("link show up0"));
        drop(dataplane);
        assert!(
            ip("link show up0").contains("prog/xdp id"),
            "stays without an agent"
        );
        let mut dataplane = scratch.open();
        assert_eq!(
            program_of(&ip("link show up0")),
            old_program,
            "until the new agent attaches"
        );
        dataplane.attach(&native).unwrap();
        assert_eq!(scratch.names("v1/links"), pinned);
        assert_ne!(program_of(&ip("link show up0")), old_program);

        // Another mode, another role.
        dataplane
            .attach(&target("up0", Role::Uplink(XdpAttach::Generic)))
            .unwrap();
        assert_eq!(
            hooks(&dataplane),
            [Hook::XdpGeneric, Hook::TcIngress, Hook::TcEgress]
        );
        assert!(ip("link show up0").contains("xdpgeneric"));
        assert!(reader.tx_devices().unwrap().is_empty());
        dataplane.attach(&target("up0", Role::Pod)).unwrap();
        assert_eq!(hooks(&dataplane), [Hook::TcIngress, Hook::TcEgress]);
        assert_eq!(reader.devices().unwrap()[0].1.kind(), device::POD);
        assert!(!ip("link show up0").contains("prog/xdp"));

        dataplane.detach(native.ifindex).unwrap();
        dataplane.detach(native.ifindex).unwrap();
        assert!(hooks(&dataplane).is_empty());
        assert!(reader.devices().unwrap().is_empty());
    });
}

/// The id after `prog/xdp id`.
fn program_of(link: &str) -> u32 {
    let (_, rest) = link.split_once("prog/xdp id ").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn devices_that_have_gone_leave_nothing_behind() {
    in_namespace(|| {
        let scratch = Scratch::new();
        let mut dataplane = scratch.open();
        let gone = target("up0", Role::Uplink(XdpAttach::Generic));
        dataplane.attach(&gone).unwrap();
        assert!(dataplane.prune_devices().unwrap().is_empty(), "it is still there");

        ip("link del up0");
        assert!(hooks(&dataplane).is_empty());
        // A new device gets the number: the stale links must not be taken for its own.
        ip(&format!(
            "link add up0 index {} type veth peer name far0",
            gone.ifindex
        ));
        dataplane.attach(&gone).unwrap();
        assert_eq!(hooks(&dataplane).len(), 3);

        ip("link del up0");
        assert_eq!(dataplane.prune_devices().unwrap(), [gone.ifindex]);
        assert!(scratch.names("v1/links").is_empty());
        assert!(Reader::open(&scratch.0).unwrap().devices().unwrap().is_empty());

        let error = dataplane.attach(&gone).unwrap_err().to_string();
        assert!(error.contains("up0 is no longer number"), "{error}");
        assert!(Reader::open(&scratch.0).unwrap().devices().unwrap().is_empty());
    });
}

#[test]
fn a_foreign_xdp_program_is_named_as_the_cause() {
    in_namespace(|| {
        let (mine, other) = (Scratch::new(), Scratch::new());
        let mut foreign = other.open();
        foreign
            .attach(&target("up0", Role::Uplink(XdpAttach::Native)))
            .unwrap();
        let mut dataplane = mine.open();
        let error = dataplane
            .attach(&target("up0", Role::Uplink(XdpAttach::Native)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("another XDP program"), "{error}");
        // tc takes several: ours are there beside the other's.
        assert_eq!(hooks(&dataplane), [Hook::TcIngress, Hook::TcEgress]);
    });
}

#[test]
fn a_kernel_without_tcx_gets_filters_that_survive_a_restart() {
    in_namespace(|| {
        let scratch = Scratch::new();
        let mut options = scratch.options();
        options.tc_hook = TcHook::Clsact;
        let filters = |direction| {
            run("tc", &format!("filter show dev up0 {direction}"))
                .lines()
                .filter(|line| line.contains("direct-action"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for _start in 0..2 {
            let mut dataplane = Dataplane::open_or_create(&options).unwrap();
            assert!(dataplane.prune_devices().unwrap().is_empty());
            dataplane
                .attach(&target("up0", Role::Uplink(XdpAttach::Off)))
                .unwrap();
            dataplane
                .attach(&target("up0", Role::Uplink(XdpAttach::Off)))
                .unwrap();
            drop(dataplane);
            for direction in ["ingress", "egress"] {
                assert_eq!(filters(direction).len(), 1, "{:?}", filters(direction));
            }
        }
        let removed = cleanup(&scratch.0).unwrap();
        assert_eq!(removed.filters.len(), 1, "{removed:?}");
        assert!(filters("ingress").is_empty() && filters("egress").is_empty());
    });
}

#[test]
fn cleanup_detaches_programs() {
    in_namespace(|| {
        let scratch = Scratch::new();
        let mut dataplane = scratch.open();
        dataplane
            .attach(&target("up0", Role::Uplink(XdpAttach::Native)))
            .unwrap();
        drop(dataplane);
        let removed = cleanup(&scratch.0).unwrap();
        assert_eq!(removed.links.len(), 3, "{removed:?}");
        assert!(!ip("link show up0").contains("prog/xdp"));
        assert!(!Path::new(&scratch.0).exists());
    });
}

#[test]
fn a_device_without_links_is_pruned_after_a_restart_too() {
    in_namespace(|| {
        let scratch = Scratch::new();
        let mut options = scratch.options();
        options.tc_hook = TcHook::Clsact;
        let gone = target("up0", Role::Pod);
        let mut dataplane = Dataplane::open_or_create(&options).unwrap();
        dataplane.attach(&gone).unwrap();
        drop(dataplane);
        ip("link del up0");
        let mut dataplane = Dataplane::open_or_create(&options).unwrap();
        assert_eq!(dataplane.prune_devices().unwrap(), [gone.ifindex]);
        assert!(Reader::open(&scratch.0).unwrap().devices().unwrap().is_empty());
    });
}

/// The agent moves them between threads.
#[test]
fn handles_may_be_sent() {
    fn sendable<T: Send>() {}
    sendable::<Dataplane>();
    sendable::<KernelMaps>();
    sendable::<Reader>();
    sendable::<KernelLog>();
}

/// Root is needed for all of it; say so once, and clearly.
#[test]
fn the_tests_run_as_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "{}",
        io::Error::from(io::ErrorKind::PermissionDenied)
    );
}
