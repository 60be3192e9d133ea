//! The story a real API server told, told again: what a node programs at each of its steps.
//!
//! The double begins with the recorded first lists and does at each step what the real server did, at the same resource versions.
//! What has to be programmed is in `tests/story/expected.yaml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::agent::{Agent, Source};
use lab::apiserver::{ApiServer, Recording, Step};
use lab::poll;
use lab::programmed::{InMemory, same, text};
use lab::topology::Topology;
use lb_userspace::source::kube;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The node of the story.
const NODE: &str = "node1";
/// The Services of the story; the others stay as they were.
const STORY: [&str; 2] = [" t/roll", " t/manual"];
/// How long a step may take to be programmed.
const LIMIT: Duration = Duration::from_secs(30);

/// Room for the story, and not much more.
const CONFIG: &str = "apiVersion: config.xvip.dev/v1alpha1
kind: LoadBalancerConfiguration
mapSizes: {services: 1024, backends: 1024, slots: 1024, frontends: 1024}
";

/// What is to be programmed after a step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// The step, in the recording's words.
    step: String,
    /// Frontends and backends; after the first step those of the story's Services alone.
    lines: Vec<String>,
    /// The node's zone, where the step is about it.
    zone: Option<String>,
    /// Whether load balancers should leave the node, where the step is about it.
    leaving: Option<bool>,
}

fn expected() -> Vec<Expected> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("story/expected.yaml");
    let mut all: Vec<Expected> = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let others = all[0].lines.clone();
    for step in &mut all[1..] {
        assert!(
            step.lines.iter().all(|line| is_of_story(line)),
            "{step:?} has lines of others"
        );
        step.lines.extend(others.iter().cloned());
    }
    all
}

fn is_of_story(line: &str) -> bool {
    STORY.iter().any(|service| line.contains(service))
}

/// The recorded steps, each with what is to be programmed after it.
fn steps(recording: &Recording) -> Vec<(Step, Expected)> {
    let expected = expected();
    let told: Vec<_> = recording.steps().iter().map(|step| step.what.as_str()).collect();
    let known: Vec<_> = expected[1..]
        .iter()
        .map(|expected| expected.step.as_str())
        .collect();
    assert_eq!(told, known);
    recording
        .steps()
        .iter()
        .cloned()
        .zip(expected.into_iter().skip(1))
        .collect()
}

/// No difference between what is to be programmed and what is, whatever the order.
fn check(expected: &Expected, lines: &[String]) -> Result<(), String> {
    let sorted = |lines: &[String]| {
        let lines: BTreeSet<String> = lines.iter().filter(|line| !line.is_empty()).cloned().collect();
        lines.into_iter().collect::<Vec<_>>()
    };
    same(&sorted(&expected.lines), &sorted(lines))
        .map_err(|difference| format!("{}: {difference}", expected.step))
}

fn check_in_memory(expected: &Expected, node: &InMemory) -> Result<(), String> {
    let object = node.cluster().node(NODE).ok_or("no Node")?;
    if expected.zone.is_some() && expected.zone != object.zone {
        return Err(format!("{}: zone {:?}", expected.step, object.zone));
    }
    if expected.leaving.is_some_and(|leaving| leaving != object.leaving) {
        return Err(format!("{}: leaving is {}", expected.step, object.leaving));
    }
    let lines = node.lines().map_err(|error| format!("{error:#}"))?;
    check(expected, &lines)
}

fn play_in_memory(with_streaming_lists: bool) {
    let recording = Recording::load().unwrap();
    let api = ApiServer::start().unwrap();
    api.serve_streaming_lists(with_streaming_lists);
    recording.restore(api.store());
    let files = tempfile::tempdir().unwrap();
    let kubeconfig = files.path().join("kubeconfig");
    api.kubeconfig().write(&kubeconfig).unwrap();
    let config = kube::Config {
        access: kube::Access {
            kubeconfig: Some(kubeconfig),
            ..kube::Access::default()
        },
        node_name: NODE.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        let mut source = kube::spawn(config, cancel.clone()).unwrap();
        let _stop = cancel.drop_guard();
        let mut node = InMemory::new(NODE).unwrap();
        let first = &expected()[0];
        node.follow(&mut source.updates, LIMIT, |node| check_in_memory(first, node))
            .await
            .unwrap();
        for (step, expected) in steps(&recording) {
            step.play(api.store());
            node.follow(&mut source.updates, LIMIT, |node| {
                check_in_memory(&expected, node)
            })
            .await
            .unwrap();
        }
    });
}

#[test]
fn each_step_gives_what_the_rules_call_for() {
    play_in_memory(true);
}

#[test]
fn each_step_gives_the_same_from_a_server_without_streaming_lists() {
    play_in_memory(false);
}

#[test]
fn the_agents_maps_in_the_kernel_follow_the_story_too() {
    let recording = Recording::load().unwrap();
    let topology = Topology::builder().build().unwrap();
    let wire = topology.wire(0);
    let api = ApiServer::builder().inside(wire.ns());
    let api = api.listen((wire.address(false), 6443).into()).start().unwrap();
    recording.restore(api.store());
    let files = tempfile::tempdir().unwrap();
    let kubeconfig = files.path().join("kubeconfig");
    api.kubeconfig().write(&kubeconfig).unwrap();

    // The dumps go over whole arrays, once and again.
    let config = files.path().join("config.yaml");
    fs::write(&config, CONFIG).unwrap();

    let node = topology.node(0);
    let config = config.to_str().unwrap();
    let arguments = [
        "--config",
        config,
        "--hostname-override",
        NODE,
        "--xdp-mode",
        "native",
    ];
    let agent = Agent::start_ready(node.ns(), Source::Kube { kubeconfig }, &arguments).unwrap();
    let wait = |expected: &Expected| {
        poll::until("the maps of a step", LIMIT, || {
            let dump = |map: &str| {
                let records = agent.xvip_json(&["dump", map])?;
                Ok(serde_json::from_value::<Vec<Value>>(records)?)
            };
            let lines = text::lines(dump).map_err(|error| format!("{error:#}"))?;
            check(expected, &lines)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    };
    wait(&expected()[0]);
    for (step, expected) in steps(&recording) {
        step.play(api.store());
        wait(&expected);
    }
}
