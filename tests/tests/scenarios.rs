//! From Kubernetes YAML to what the maps hold, as text: source, planner and reconciler together, without a kernel.
//!
//! Each file of `tests/scenarios` holds manifests and ends with a document `expected: |`: what node `here` programs, and what
//! the source said about objects it did not simply take. Expectations follow from `semantics.md`, not from what comes out;
//! `UPDATE_SCENARIOS=1` writes what comes out, to be read before it is kept, and is refused where `CI` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lb_userspace::agent::cluster::{Cluster, Touched};
use lb_userspace::cli::view::raw::RawMap;
use lb_userspace::model::{ServiceKey, Update};
use lb_userspace::plan::{PlanConfig, ServicePlan, ThisNode, plan_service};
use lb_userspace::reconcile::fake::FakeMaps;
use lb_userspace::reconcile::maps::Capacities;
use lb_userspace::reconcile::{GRACE, Reconciler};
use lb_userspace::snapshot::Snapshot;
use lb_userspace::source::{Report, dir};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The node whose datapath is expected.
const HERE: &str = "here";
/// What separates a file's manifests from its expectation.
const EXPECTED: &str = "\n---\nexpected: |\n";
/// How long the source may take to read one file.
const READ: Duration = Duration::from_secs(10);

const ROOMY: Capacities = Capacities {
    frontends: 1000,
    records: 1000,
    slots: 1000,
    backends: 1000,
    services: 1000,
};

#[test]
fn every_scenario_ends_in_the_expected_maps() {
    let update = env::var_os("UPDATE_SCENARIOS").is_some();
    assert!(
        !(update && env::var_os("CI").is_some()),
        "UPDATE_SCENARIOS is for people: what it wrote has to be read before it is kept"
    );
    let files = scenarios();
    assert!(files.len() >= 10, "only {} scenarios found", files.len());
    let mut differences = String::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let (manifests, expected) = text.split_once(EXPECTED).unwrap_or((text.trim_end(), ""));
        let expected: Vec<&str> = expected
            .lines()
            .map(|line| line.strip_prefix("  ").unwrap_or(line))
            .collect();
        let actual = programmed(manifests);
        if actual == expected {
            continue;
        }
        if update {
            let indented: String = actual.iter().map(|line| indent(line)).collect();
            fs::write(&path, format!("{manifests}{EXPECTED}{indented}")).unwrap();
        }
        let name = path.file_name().unwrap_or_default().display();
        let _ = writeln!(
            differences,
            "{name} (- expected, + programmed):\n{}",
            diff(&expected, &actual)
        );
    }
    assert!(differences.is_empty() || update, "{differences}");
    print!("{differences}");
}

fn scenarios() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn indent(line: &str) -> String {
    if line.is_empty() {
        "\n".to_owned()
    } else {
        format!("  {line}\n")
    }
}

/// What manifests come to, in lines.
fn programmed(manifests: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("manifests.yaml");
    fs::write(&path, manifests).unwrap();
    let (updates, report) = read(&path);
    let snapshot = maps_of(updates);
    let mut lines = frontends(&snapshot);
    lines.push(String::new());
    lines.extend(backends(&snapshot));
    let remarks = remarks(&report, &path);
    if !remarks.is_empty() {
        lines.push(String::new());
        lines.extend(remarks);
    }
    lines
}

/// The source's first batch, and its verdicts.
fn read(path: &Path) -> (Vec<Update>, Report) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ranges = dir::Ranges::new(
        &["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
        30_000..=32_767,
        &["198.51.100.0/24".parse().unwrap()],
    );
    let config = dir::Config {
        path: path.to_owned(),
        ranges: ranges.unwrap(),
        state_dir: None,
    };
    let cancel = CancellationToken::new();
    let read = runtime.block_on(async {
        let _stop = cancel.clone().drop_guard();
        let mut source = dir::spawn(config, cancel).unwrap();
        let updates = tokio::time::timeout(READ, source.updates.recv()).await;
        let updates = updates.expect("the source is quick").expect("the source lives");
        (updates, source.report.borrow().clone())
    });
    assert_eq!(
        read.0.last(),
        Some(&Update::InitialListsDone),
        "the first batch is the whole of it"
    );
    runtime.shutdown_background();
    read
}

/// What the reconciler makes of it, in maps in memory.
fn maps_of(updates: Vec<Update>) -> Snapshot {
    let mut cluster = Cluster::default();
    for update in updates {
        cluster.apply(update, &mut Touched::default());
    }
    let node = ThisNode {
        name: HERE.to_owned(),
        zone: cluster.node(HERE).and_then(|node| node.zone.clone()),
        addresses: cluster
            .node(HERE)
            .map(|node| node.internal_ips.iter().copied().collect())
            .unwrap_or_default(),
    };
    let plans: Vec<(ServiceKey, Option<ServicePlan>)> = cluster
        .services()
        .map(|service| {
            let slices = cluster.slices_of(&service.key);
            let plan = plan_service(service, &slices, &node, &PlanConfig::default());
            (service.key.clone(), Some(plan))
        })
        .collect();
    let now = Instant::now();
    let mut maps = FakeMaps::new(ROOMY, now, GRACE);
    let mut reconciler = Reconciler::restore(&maps, GRACE, now).unwrap();
    reconciler.apply(&mut maps, now, plans);
    let report = reconciler.inputs_complete(&mut maps, now);
    for (service, report) in report.services {
        assert!(report.outcome.is_ok(), "{service}: {:?}", report.outcome);
    }
    Snapshot {
        frontends: maps.frontends.into_iter().collect(),
        services: maps.records,
        slots: maps.slots,
        backends: maps.backends,
        names: maps.names,
        ..Snapshot::default()
    }
}

/// The records `xvip dump` would print of a map.
fn dump(snapshot: &Snapshot, map: &str) -> Vec<Value> {
    let records = RawMap::named(map).unwrap().records(snapshot);
    records
        .iter()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect()
}

/// A line a frontend: the dumps of frontends, services and slots, joined by their indices, which are left out.
fn frontends(snapshot: &Snapshot) -> Vec<String> {
    let services = by_index(dump(snapshot, "services"));
    let slots = by_index(dump(snapshot, "slots"));
    let lines = dump(snapshot, "frontends").into_iter().map(|frontend| {
        assert_eq!(frontend["tagGood"], true, "{frontend}");
        let service = &services[&frontend["record"].as_u64().unwrap()];
        let mut line = format!("frontend {} {}", socket(&frontend), text(&service["service"]));
        let flags: BTreeSet<&str> = words(&service["flags"]).collect();
        if flags.contains("unknownPort") {
            return format!("{line} reject");
        }
        for (side, drops, local) in [
            ("inside", "insideDrop", "insideLocalList"),
            ("outside", "outsideDrop", "outsideLocalList"),
        ] {
            let mut endpoints = endpoints(&slots, text(&service[side]));
            if endpoints.is_empty() {
                endpoints = if flags.contains(drops) { "drop" } else { "reject" }.to_owned();
            }
            let list = if flags.contains(local) { "local" } else { "cluster" };
            let _ = write!(line, " {side}={list}:{endpoints}");
        }
        let rewrites = flags
            .iter()
            .filter_map(|flag| flag.strip_prefix("rewrite"))
            .map(str::to_lowercase);
        let _ = write!(line, " rewrites={}", rewrites.collect::<Vec<_>>().join(","));
        if service["affinitySeconds"] != 0 {
            let _ = write!(line, " affinity={}s", service["affinitySeconds"]);
        }
        line
    });
    lines.collect()
}

/// A line a backend, by Service and address; indices are the reconciler's own business.
fn backends(snapshot: &Snapshot) -> Vec<String> {
    let mut lines: Vec<String> = dump(snapshot, "backends")
        .into_iter()
        .map(|backend| {
            assert_eq!(backend["alive"], true, "{backend}");
            let flags: Vec<_> = words(&backend["flags"]).collect();
            format!(
                "backend {} {} {}",
                text(&backend["service"]),
                socket(&backend),
                flags.join(",")
            )
        })
        .collect();
    lines.sort();
    lines
}

/// What the source said about objects that it did not simply take.
fn remarks(report: &Report, path: &Path) -> Vec<String> {
    let prefix = format!("{}:", path.display());
    let lines = report.to_string();
    lines
        .lines()
        .filter(|line| !line.is_empty() && !line.contains(": accepted: "))
        .map(|line| format!("line {}", line.strip_prefix(&prefix).unwrap_or(line)))
        .collect()
}

fn by_index(records: Vec<Value>) -> BTreeMap<u64, Value> {
    let indexed = records
        .into_iter()
        .map(|record| (record["index"].as_u64().unwrap(), record));
    indexed.collect()
}

/// `OFFSET+LENGTH` as the addresses that stand there.
fn endpoints(slots: &BTreeMap<u64, Value>, range: &str) -> String {
    let (offset, length) = range.split_once('+').unwrap();
    let (offset, length): (u64, u64) = (offset.parse().unwrap(), length.parse().unwrap());
    let addresses: Vec<&str> = (offset..offset + length)
        .map(|index| text(&slots[&index]["address"]))
        .map(|address| address.split_once('/').map_or(address, |(socket, _)| socket))
        .collect();
    addresses.join(",")
}

/// `address:port/PROTOCOL` of a record.
fn socket(record: &Value) -> String {
    let address: std::net::IpAddr = text(&record["address"]).parse().unwrap();
    let port = u16::try_from(record["port"].as_u64().unwrap()).unwrap();
    format!(
        "{}/{}",
        std::net::SocketAddr::new(address, port),
        text(&record["protocol"])
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Lines that are in one text alone, in the order of a longest common subsequence.
fn diff(old: &[&str], new: &[String]) -> String {
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            i += 1;
            j += 1;
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            let _ = writeln!(text, "  - {}", old[i]);
            i += 1;
        } else {
            let _ = writeln!(text, "  + {}", new[j]);
            j += 1;
        }
    }
    text
}
