//! Golden tests: one small node by hand, every view of it against a file in `golden/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p lb-userspace golden` writes the files anew; what changed is then for the reviewer's eye.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use bytemuck::Zeroable;
use lb_common::addr::{Addr, Addr4, Addr6};
use lb_common::affinity::{AffinityKey, AffinityValue};
use lb_common::backend::{Backend, IN_CLUSTER_LIST, IN_LOCAL_LIST, LOCAL};
use lb_common::device::{self, Device};
use lb_common::flow::{FlowEntry4, FlowEntry6, Forward, HookClass, kind};
use lb_common::frontend::{FrontendKey, FrontendValue};
use lb_common::layout::maps;
use lb_common::lifetime::{Timeouts, seen};
use lb_common::name::{Name, TEXT_LEN};
use lb_common::node_addr::NODE_PORTS;
use lb_common::port::Port;
use lb_common::prefilter;
use lb_common::protocol::{TCP, UDP};
use lb_common::reason::Reason;
use lb_common::service::{ServiceRecord, SlotRange, flags};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRangeKey;
use lb_common::stats::ServiceStats;

use super::{Scope, affinity, backends, devices, flows, raw, services, status};
use crate::cli::output::{Format, Row, render};
use crate::snapshot::{Inventory, Link, MapInfo, RunningAgent, Snapshot};

const WEB: u32 = 1;
const DNS: u32 = 2;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addr(text: &str) -> Addr {
    Addr::from(ip(text))
}

fn addr4(text: &str) -> Addr4 {
    Addr4::from(text.parse::<std::net::Ipv4Addr>().unwrap())
}

fn addr6(text: &str) -> Addr6 {
    Addr6::from(text.parse::<std::net::Ipv6Addr>().unwrap())
}

fn name(text: &str, port: u16, proto: u8, family: u8) -> Name {
    let mut bytes = [0; TEXT_LEN];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    Name {
        text: bytes,
        port: Port::new(port).0,
        proto,
        family,
    }
}

fn frontend(address: Addr, port: u16, proto: u8, record: u32) -> (FrontendKey, FrontendValue) {
    let key = FrontendKey::new(address, Port::new(port), proto);
    (key, FrontendValue::new(&key, record))
}

fn backend(address: &str, port: u16, proto: u8, service: u32, flags: u8) -> Backend {
    Backend {
        addr: addr(address),
        port: Port::new(port),
        proto,
        service,
        flags,
        ..Backend::default()
    }
}

/// A TCP connection 198.51.100.7:40000 → 10.96.0.10:80 → 10.0.1.2:8080 through a node that rewrites the source.
fn tcp_flows() -> Vec<FlowEntry4> {
    let forward = FlowEntry4 {
        src: addr4("198.51.100.7"),
        dst: addr4("10.96.0.10"),
        sport: Port::new(40_000),
        dport: Port::new(80),
        new_src: addr4("192.0.2.1"),
        new_dst: addr4("10.0.1.2"),
        new_sport: Port::new(61_000),
        new_dport: Port::new(8080),
        proto: TCP,
        own: seen::OPEN | seen::ACK,
        peer: seen::OPEN,
        seq: 2,
        last: 1_000 - 3 * 100,
        macs: bytemuck::cast([2_u8, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]),
        ifindex: 2,
        backend: 2,
        generation: 4,
        kind: kind(HookClass::UplinkIngress, Forward::Redirect, false),
        ..FlowEntry4::zeroed()
    };
    let reply = FlowEntry4 {
        src: forward.new_dst,
        dst: forward.new_src,
        sport: forward.new_dport,
        dport: forward.new_sport,
        new_src: forward.dst,
        new_dst: forward.src,
        new_sport: forward.dport,
        new_dport: forward.sport,
        own: forward.peer,
        peer: forward.own,
        last: 1_000 - 100,
        kind: kind(HookClass::UplinkIngress, Forward::Neighbour, true),
        ..forward
    };
    // A flow of a backend whose generation has moved on.
    let stale = FlowEntry4 {
        sport: Port::new(40_001),
        new_sport: Port::new(61_001),
        generation: 2,
        ..forward
    };
    vec![reply, stale, forward]
}

/// A DNS query over IPv6 from a pod, unanswered.
fn udp_flows() -> Vec<FlowEntry6> {
    let query = FlowEntry6 {
        src: addr6("fd00:1::9"),
        dst: addr6("fd00:96::a"),
        sport: Port::new(5353),
        dport: Port::new(53),
        new_src: addr6("fd00:1::9"),
        new_dst: addr6("fd00:1::53"),
        new_sport: Port::new(5353),
        new_dport: Port::new(1053),
        proto: UDP,
        own: seen::OPEN,
        last: 1_000,
        backend: 3,
        kind: kind(HookClass::PodIngress, Forward::Stack, false),
        ..FlowEntry6::zeroed()
    };
    vec![query]
}

fn node() -> Snapshot {
    let web = ServiceRecord {
        inside: SlotRange { offset: 0, len: 2 },
        outside: SlotRange { offset: 0, len: 2 },
        service: WEB,
        affinity_seconds: 600,
        flags: flags::REWRITE_NODE,
        ..ServiceRecord::default()
    };
    let web_outside = ServiceRecord {
        outside: SlotRange { offset: 2, len: 1 },
        flags: flags::REWRITE_NODE | flags::OUTSIDE_DROP | flags::OUTSIDE_LOCAL_LIST,
        ..web
    };
    let web_restricted = ServiceRecord {
        sources: 2,
        ..web_outside
    };
    let dns = ServiceRecord {
        inside: SlotRange { offset: 3, len: 1 },
        outside: SlotRange { offset: 3, len: 1 },
        service: DNS,
        ..ServiceRecord::default()
    };
    let mut dead = backend("10.0.1.9", 8080, TCP, WEB, 0);
    dead.generation = 7;
    let mut reasons = vec![0; 64];
    reasons[Reason::Sent as usize] = 1234;
    reasons[Reason::MidFlow as usize] = 5;
    Snapshot {
        monotonic_ns: 10_000_000_000,
        settings: Some(Settings {
            layout: 1,
            hz: 100,
            jiffies: 0,
            monotonic_ns: 0,
            flow4_buckets: 1024,
            flow6_buckets: 512,
            snat_port_first: 61_000,
            snat_port_count: 4_000,
            timeouts: Timeouts::SECONDS,
            rejects_per_second: 1_000,
            ..Settings::zeroed()
        }),
        frontends: vec![
            frontend(addr("fd00:96::a"), 53, UDP, 3),
            frontend(Addr::ANY4, 30_080, TCP, 2),
            frontend(addr("203.0.113.5"), 80, TCP, 2),
            frontend(addr("10.96.0.10"), 80, TCP, 1),
            frontend(addr("10.96.0.10"), 0, 0, 4),
            frontend(addr("fd00:96::a"), 0, 0, 4),
            // A load-balancer address with source ranges.
            frontend(addr("203.0.113.9"), 80, TCP, 5),
        ],
        services: [(1, web), (2, web_outside), (3, dns), (5, web_restricted)].into(),
        slots: vec![1, 2, 1, 3, 0],
        backends: [
            (
                1,
                backend(
                    "10.0.0.2",
                    8080,
                    TCP,
                    WEB,
                    LOCAL | IN_CLUSTER_LIST | IN_LOCAL_LIST,
                ),
            ),
            (
                2,
                Backend {
                    generation: 4,
                    epoch: 1,
                    ..backend("10.0.1.2", 8080, TCP, WEB, IN_CLUSTER_LIST)
                },
            ),
            (3, backend("fd00:1::53", 1053, UDP, DNS, LOCAL)),
            (4, dead),
        ]
        .into(),
        source_ranges: vec![
            (SourceRangeKey::new(2, ip("203.0.113.0"), 24), WEB),
            (SourceRangeKey::new(2, ip("192.0.2.0"), 25), WEB),
            (SourceRangeKey::new(1, ip("fd00:2::"), 32), DNS),
        ],
        flows4: tcp_flows(),
        flows6: udp_flows(),
        affinity: vec![
            (
                AffinityKey {
                    client: addr("198.51.100.7"),
                    service: WEB,
                },
                AffinityValue {
                    backend: 2,
                    epoch: 1,
                    last_used: 500,
                },
            ),
            (
                AffinityKey {
                    client: addr("10.0.0.7"),
                    service: WEB,
                },
                AffinityValue {
                    backend: 1,
                    epoch: 9,
                    last_used: 1_000,
                },
            ),
        ],
        node_addrs: vec![(addr("192.0.2.1"), NODE_PORTS), (addr("10.0.0.1"), 0)],
        prefilter: vec![
            7,
            prefilter::bit(addr("10.96.0.10")),
            prefilter::bit(addr("fd00:1::53")),
        ],
        devices: [
            (
                2,
                Device::new(
                    [2, 0, 0, 0, 0, 1],
                    device::UPLINK,
                    device::XDP_TX,
                    Some(addr4("192.0.2.1")),
                    None,
                ),
            ),
            (5, Device::new([2, 0, 0, 0, 0, 5], device::POD, 0, None, None)),
        ]
        .into(),
        service_stats: [(
            WEB,
            ServiceStats {
                packets: 4_000,
                bytes: 1 << 21,
                connections: 17,
                refused: 3,
            },
        )]
        .into(),
        reasons,
        names: [
            (WEB, name("shop/web:http", 80, TCP, 4)),
            (DNS, name("kube-system/kube-dns:dns", 53, UDP, 6)),
        ]
        .into(),
        device_names: [(2, "eth0".to_owned())].into(),
        locks4: [(3, 1)].into(),
        tx_devices: [(2, 2)].into(),
        reject_tokens: vec![[0, 0], [900, 77]],
        xdp_stages: [(0, 41), (2, 43)].into(),
        tc_stages: [(1, 52), (3, 54)].into(),
        ..Snapshot::default()
    }
}

fn inventory() -> Inventory {
    let link = |device: &str, ifindex, hook: &str, mode: &str| Link {
        device: device.to_owned(),
        ifindex,
        hook: hook.to_owned(),
        mode: mode.to_owned(),
    };
    Inventory {
        bpffs: "/sys/fs/bpf/xvip".to_owned(),
        layout: 1,
        maps: vec![
            MapInfo {
                name: maps::FRONTENDS.to_owned(),
                capacity: 8,
            },
            MapInfo {
                name: maps::FLOWS4.to_owned(),
                capacity: 1024,
            },
            MapInfo {
                name: maps::SETTINGS.to_owned(),
                capacity: 1,
            },
        ],
        links: vec![
            link("eth0", 2, "xdp", "native"),
            link("eth0", 2, "tc egress", "tcx"),
        ],
        agent: Some(RunningAgent { pid: Some(77) }),
    }
}

/// Compares a view with its golden file.
fn check(file: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/cli/view/golden")
        .join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(shown, expected, "\n--- shown:\n{shown}\n--- {file}:\n{expected}");
}

fn shown<R: Row>(rows: &[R], format: Format) -> String {
    render(rows, format, "nothing").unwrap()
}

/// Every address has a line; counters belong to the service port and stand once.
#[test]
fn golden_services() {
    let rows = services::rows(&node(), &Scope::All);
    check("services.txt", &shown(&rows, Format::Table));
    check("services.wide.txt", &shown(&rows, Format::Wide));
    check("services.json", &shown(&rows, Format::Json));
    check("services.yaml", &shown(&rows, Format::Yaml));
}

#[test]
fn a_namespace_leaves_out_the_others() {
    let scope = Scope::Namespace("kube-system".to_owned());
    let services = services::rows(&node(), &scope);
    let names: Vec<&str> = services.iter().map(|row| row.service.as_str()).collect();
    assert_eq!(names, ["kube-system/kube-dns:dns"]);
    let flows = flows::rows(&node(), &scope, true);
    assert_eq!(flows.len(), 1);
    assert!(affinity::rows(&node(), &scope).is_empty());
    assert_eq!(backends::rows(&node(), &scope).len(), 1);
}

#[test]
fn golden_backends() {
    let rows = backends::rows(&node(), &Scope::All);
    check("backends.wide.txt", &shown(&rows, Format::Wide));
}

/// Replies are folded into their connection; what no packet would use is shown on request.
#[test]
fn golden_flows() {
    let live = flows::rows(&node(), &Scope::All, false);
    check("flows.txt", &shown(&live, Format::Table));
    check("flows.json", &shown(&live, Format::Json));
    let all = flows::rows(&node(), &Scope::All, true);
    check("flows.dead.wide.txt", &shown(&all, Format::Wide));
}

/// A choice is void when its time is up or its backend has left a list since.
#[test]
fn golden_affinity() {
    check(
        "affinity.txt",
        &shown(&affinity::rows(&node(), &Scope::All), Format::Table),
    );
}

#[test]
fn golden_devices() {
    check(
        "devices.wide.txt",
        &shown(&devices::rows(&node(), &inventory()), Format::Wide),
    );
}

#[test]
fn golden_status() {
    let status = status::status(&node(), &inventory());
    check("status.txt", &status::render(&status, Format::Table).unwrap());
    check("status.json", &status::render(&status, Format::Json).unwrap());
}

/// The hash's seed is in none of them.
#[test]
fn golden_dumps() {
    for map in raw::ALL {
        let shown: String = map
            .records(&node())
            .iter()
            .map(|record| format!("{record}\n"))
            .collect();
        check(&format!("dump.{}.txt", map.name), &shown);
    }
}
