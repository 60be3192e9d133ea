//! Manifests with damage: whatever is in a file, reading it ends, and the files beside it lose nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lb_userspace::source::Outcome;
use lb_userspace::source::dir::{self, Config, Ranges};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Time for all mutations together; a slow machine tries fewer of them.
const BUDGET: Duration = Duration::from_secs(4);
const SEEDS: u64 = 400;

/// What in a manifest is worth replacing by something else of the list, besides its own lines.
const FRAGMENTS: &[&str] = &[
    "",
    " ",
    "\t",
    "---\n",
    "...\n",
    "- ",
    ": ",
    "{",
    "]",
    "\"",
    "'",
    "|",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "? ",
    "# ",
    "%YAML 1.2\n",
    "null",
    "~",
    "true",
    "-1",
    "0",
    "65536",
    "99999999999999999999",
    "1e400",
    ".nan",
    "0x",
    "TCP",
    "SCTP",
    "IPv6",
    "None",
    "10.96.0.300",
    "10.96.0.1",
    "::",
    "fd00:10:96::1",
    "255.255.255.255",
    "0.0.0.0",
    "\u{feff}",
    "\u{0}",
    "\r\n",
    "\u{2028}",
    "🦀",
    "List",
    "EndpointSlice",
    "Endpoints",
    "Service",
    "Node",
    "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}",
    "annotations: {a: b}",
];

/// Two Services and a slice that no mutation touches, one file before and one after the damaged one.
const BYSTANDERS: [(&str, &str); 2] = [
    (
        "a-before.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: before, namespace: bystander}\nspec: {clusterIP: 10.96.77.1, ports: [{port: 80}]}\n",
    ),
    (
        "z-after.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: after, namespace: bystander}\nspec: {clusterIP: 10.96.77.2, ports: [{port: 80}]}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {name: after-1, namespace: bystander, labels: {kubernetes.io/service-name: after}}\n\
         addressType: IPv4\nendpoints: [{addresses: [10.244.0.7]}]\nports: [{port: 8080}]\n",
    ),
];

#[test]
fn damage_in_one_file_ends_in_verdicts_and_takes_nothing_from_the_others() {
    let examples = examples();
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in BYSTANDERS {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let alone = verdicts(directory.path());
    assert_eq!(alone.len(), 3, "{alone:?}");

    let damaged = directory.path().join("m-damaged.yaml");
    let started = Instant::now();
    let mut tried = 0;
    for seed in 0..SEEDS {
        if started.elapsed() > BUDGET {
            break;
        }
        let mut rng = StdRng::seed_from_u64(seed);
        let bytes = mutate(&mut rng, &examples);
        fs::write(&damaged, &bytes).unwrap();
        let before = Instant::now();
        let beside = verdicts(directory.path());
        assert_eq!(beside, alone, "seed {seed}:\n{}", String::from_utf8_lossy(&bytes));
        assert!(
            before.elapsed() < BUDGET,
            "seed {seed} took {:?}",
            before.elapsed()
        );
        tried += 1;
    }
    assert!(tried >= 20, "only {tried} mutations in {BUDGET:?}");
}

/// The example manifests, as an operator would start from them.
fn examples() -> Vec<String> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let manifests: BTreeSet<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    assert!(manifests.len() >= 6, "{manifests:?}");
    manifests
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// What is said of the files that are not damaged, a line an object.
fn verdicts(directory: &Path) -> Vec<String> {
    let config = Config {
        path: directory.to_owned(),
        ranges: Ranges::default(),
        state_dir: None,
    };
    let report = dir::check(config).expect("the directory is there");
    let mut lines = Vec::new();
    for entry in &report.entries {
        if entry.location.file.ends_with("m-damaged.yaml") {
            if let Outcome::Refused { problems, .. } = &entry.outcome {
                assert!(!problems.is_empty(), "a refusal says why: {entry:?}");
            }
        } else {
            lines.push(entry.to_string());
        }
    }
    lines
}

/// One to eight kinds of damage to one example, or to two of them run together.
fn mutate(rng: &mut StdRng, examples: &[String]) -> Vec<u8> {
    let mut text = examples.choose(rng).unwrap().clone();
    if rng.random_bool(0.2) {
        text.push_str(examples.choose(rng).unwrap());
    }
    let mut bytes = text.into_bytes();
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.random();
                }
            }
            2 => splice(&mut bytes, at..at, FRAGMENTS.choose(rng).unwrap()),
            3 => {
                let value = value_at(&bytes, at);
                splice(&mut bytes, value, FRAGMENTS.choose(rng).unwrap());
            }
            4 => {
                let line = line_at(&bytes, at);
                let copy = bytes[line.clone()].to_vec();
                bytes.splice(line.start..line.start, copy);
            }
            5 => {
                let line = line_at(&bytes, at);
                bytes.drain(line);
            }
            _ => {
                let line = line_at(&bytes, at);
                let indent = [" ", "  ", "    ", "\t"].choose(rng).unwrap();
                splice(&mut bytes, line.start..line.start, indent);
            }
        }
    }
    bytes
}

fn splice(bytes: &mut Vec<u8>, range: std::ops::Range<usize>, text: &str) {
    bytes.splice(range, text.bytes());
}

/// The line around a place, with its end.
fn line_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let start = bytes[..at]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    let end = bytes[at..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |end| at + end + 1);
    start..end
}

/// What stands behind the colon of that line, or the whole of it.
fn value_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let line = line_at(bytes, at);
    let end = if bytes[line.clone()].ends_with(b"\n") {
        line.end - 1
    } else {
        line.end
    };
    match bytes[line.start..end].windows(2).position(|pair| pair == b": ") {
        Some(colon) => line.start + colon + 2..end,
        None => line.start..end,
    }
}
