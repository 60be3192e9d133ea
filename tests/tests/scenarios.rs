//! From Kubernetes YAML to what the maps hold, as text: source, planner and reconciler together, without a kernel.
//!
//! Each file of `tests/scenarios` holds manifests and ends with a document `expected: |`: what node `here` programs, and what
//! the source said about objects it did not simply take. Expectations follow from `semantics.md`, not from what comes out;
//! `UPDATE_SCENARIOS=1` writes what comes out, to be read before it is kept, and is refused where `CI` is set.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::programmed::{InMemory, diff};
use lab::scenario::{HERE, Scenario};
use lb_userspace::model::Update;
use lb_userspace::source::{Report, dir};
use tokio_util::sync::CancellationToken;

/// How long the source may take to read one file.
const READ: Duration = Duration::from_secs(10);

#[test]
fn every_scenario_ends_in_the_expected_maps() {
    let update = env::var_os("UPDATE_SCENARIOS").is_some();
    assert!(
        !(update && env::var_os("CI").is_some()),
        "UPDATE_SCENARIOS is for people: what it wrote has to be read before it is kept"
    );
    let mut differences = String::new();
    for scenario in Scenario::all().unwrap() {
        let actual = programmed(&scenario.manifests);
        if actual == scenario.expected {
            continue;
        }
        if update {
            scenario.write(&actual).unwrap();
        }
        let _ = writeln!(
            differences,
            "{} (- expected, + programmed):\n{}",
            scenario.name(),
            diff(&scenario.expected, &actual)
        );
    }
    assert!(differences.is_empty() || update, "{differences}");
    print!("{differences}");
}

/// What manifests come to, in lines.
fn programmed(manifests: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("manifests.yaml");
    fs::write(&path, manifests).unwrap();
    let (updates, report) = read(&path);
    let mut node = InMemory::new(HERE).unwrap();
    node.take(updates).unwrap();
    let mut lines = node.lines().unwrap();
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
