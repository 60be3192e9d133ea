//! A demo from beginning to end.
//!
//! Owns: the order of things and what is printed when. Must not know: how any of them works.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use lb_userspace::model::{EndpointSlice, Service};
use lb_userspace::source::{Outcome, Report};
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, ManifestFile, Ranges};
use super::manifest::Manifests;
use super::probe::{Probe, Probes, probes};
use super::progress::Step;
use super::report::{self, Figures};
use super::{kill, look_around, plan, ranges, topology_view, traffic};
use crate::cluster_lab::ObjectSource;

/// Lines of the flow table that are shown.
const FLOW_LINES: usize = 14;

/// Runs Kubernetes manifests as a cluster in miniature, with real traffic through xvip.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo", version)]
pub struct Options {
    /// Manifests: files, or directories of them [default: the example shop in manifests/examples]
    #[arg(value_name = "MANIFEST")]
    pub manifests: Vec<PathBuf>,

    /// Pods for a workload whose manifest says 1 or nothing
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub replicas: u16,

    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes: u8,

    /// Calls to each frontend from each caller (the client outside, a pod on every node)
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub requests: u16,

    /// Where the agents get their objects from: the directory of manifests, or an API server (a double of it)
    #[arg(long, value_enum, default_value_t = ObjectSource::Directory)]
    pub source: ObjectSource,

    /// Leave it standing afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,

    /// Write the figures to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Somebody asked for the end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Fails once the end was asked for: called between things that take a while.
pub(super) fn check(stop: &CancellationToken) -> Result<()> {
    if stop.is_cancelled() {
        bail!(Interrupted);
    }
    Ok(())
}

/// Runs a demo; everything it made is gone when it returns, however it ends. `stop` ends it early, and ends the
/// waiting of `--keep`.
///
/// # Errors
/// When the manifests cannot be read, when the lab or an agent cannot be started, and [`Interrupted`]. Calls that fail
/// are no error here: they are in the figures.
pub fn run(options: &Options, stop: &CancellationToken) -> Result<Figures> {
    let start = Instant::now();
    let outcome = play(options, stop, start);
    match outcome {
        // An error that somebody's Ctrl-C brought about is no trouble.
        Err(_) if stop.is_cancelled() && !options.keep => bail!(Interrupted),
        outcome => outcome,
    }
}

fn play(options: &Options, stop: &CancellationToken, start: Instant) -> Result<Figures> {
    let files = read_files(&options.manifests)?;
    let mut manifests = Manifests::default();
    for file in &files {
        manifests.read(&file.path.display().to_string(), &file.text)?;
    }
    let plan = plan::plan(&manifests, options.nodes, options.replicas)?;
    let mut notes = manifests.notes;
    notes.extend(plan.notes);

    let ranges = Ranges {
        cluster_ips: ranges::cluster_ips(&manifests.services),
        load_balancers: ranges::load_balancers(),
    };
    let mut cluster = stand_up(
        options,
        ranges,
        &files,
        manifests.services,
        &plan.pods,
        stop,
        &mut notes,
    )?;

    let step = Step::begin(format!("{} agents", options.nodes));
    cluster.start_agents()?;
    step.done("everything is in the kernel");
    check(stop)?;

    let verdicts = cluster.report()?;
    let complaints = verdicts.entries.iter().flat_map(|entry| entry.complaints());
    notes.extend(complaints.map(|line| cluster.in_users_words(&line)));
    let (services, slices) = served(&verdicts);
    let world = cluster.world();
    let Probes {
        probes,
        routes,
        notes: uncalled,
    } = probes(&services, &slices, &world);
    notes.extend(uncalled);
    notes.extend(skipped(&verdicts));
    for (&address, &node) in &routes {
        cluster.route(address, node)?;
    }
    println!("\n{}", topology_view::draw(&world, &cluster.pods));
    for note in &notes {
        println!("note: {note}");
    }

    let requests = usize::from(options.requests);
    let step = Step::begin("traffic");
    let total = probes.len() * requests;
    let tallies = traffic::run(&probes, &cluster.namespaces(), &world, requests, stop, |done| {
        step.at(&format!("{done} of {total} requests"));
    })?;
    step.done(&format!("{total} requests"));
    let sums = report::by_frontend(&probes, &tallies);
    println!("\n{}", report::table(&sums));
    let failures = report::failures(&probes, &tallies);
    for line in &failures {
        println!("FAILED: {line}");
    }
    if !failures.is_empty() {
        show_reasons(&cluster)?;
    }
    show_flows(&cluster)?;

    let killed = kill_a_backend(&mut cluster, &probes, requests, stop)?;
    let figures = Figures::new(
        services.iter().filter(|service| !service.excluded).count(),
        verdicts.refused(),
        world.nodes.len(),
        plan.pods.len(),
        &sums,
        killed,
        start.elapsed().as_secs_f64(),
    );
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if options.keep {
        println!("{}", look_around::text(&cluster, &probes)?);
        println!("{}", figures.summary());
        futures::executor::block_on(stop.cancelled());
    }
    let step = Step::begin("tearing down");
    drop(cluster);
    step.done("nothing is left");
    Ok(figures)
}

fn stand_up(
    options: &Options,
    ranges: Ranges,
    files: &[ManifestFile],
    services: Vec<k8s_openapi::api::core::v1::Service>,
    pods: &[plan::PodPlan],
    stop: &CancellationToken,
    notes: &mut Vec<String>,
) -> Result<Cluster> {
    let step = Step::begin(format!("a wire, a client and {} nodes", options.nodes));
    let mut cluster = Cluster::build(options.nodes, options.source, ranges, files, services)?;
    step.done("");
    let step = Step::begin("pods");
    for (index, pod) in pods.iter().enumerate() {
        check(stop)?;
        step.at(&format!("{} of {}", index + 1, pods.len()));
        cluster.add_pod(pod)?;
    }
    cluster.add_callers()?;
    step.done(&format!("{}, and one on each node that calls", pods.len()));
    notes.extend(cluster.write_slices()?);
    Ok(cluster)
}

fn kill_a_backend(
    cluster: &mut Cluster,
    probes: &[Probe],
    requests: usize,
    stop: &CancellationToken,
) -> Result<Option<kill::Killed>> {
    let step = Step::begin("killing a backend while calls keep coming");
    let killed = kill::run(cluster, probes, requests, stop)?;
    match &killed {
        Some(killed) => {
            step.done(&killed.pod);
            println!("\n{}\n", report::kill(killed));
        }
        None => step.done("no Service has two endpoints, so none was killed"),
    }
    Ok(killed)
}

/// Reads the files, and those in directories.
fn read_files(paths: &[PathBuf]) -> Result<Vec<ManifestFile>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    let examples = [examples];
    let paths = if paths.is_empty() { &examples[..] } else { paths };
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
            let mut inside = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?;
            inside.retain(|path| {
                path.extension()
                    .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
            });
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    ensure!(
        !files.is_empty(),
        "no manifest (*.yaml, *.yml, *.json) in {}",
        paths[0].display()
    );
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(ManifestFile { path, text })
        })
        .collect()
}

/// The Services that are served, and all endpoints.
fn served(report: &Report) -> (Vec<Service>, Vec<EndpointSlice>) {
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    for entry in &report.entries {
        match &entry.outcome {
            Outcome::Service(service) => services.push((**service).clone()),
            Outcome::EndpointSlice(slice) => slices.push(slice.clone()),
            Outcome::Endpoints(_, mirrored) => slices.extend(mirrored.iter().cloned()),
            Outcome::Node(_) | Outcome::Skipped(_) | Outcome::Refused { .. } => {}
        }
    }
    (services, slices)
}

/// Services that are none of the balancer's business, with the reason.
fn skipped(report: &Report) -> Vec<String> {
    let services = report.entries.iter().filter_map(|entry| {
        let object = entry.object.as_ref().filter(|object| object.kind == "Service")?;
        let name = format!("{}/{}", object.namespace, object.name);
        match &entry.outcome {
            Outcome::Skipped(reason) => Some(format!("{name}: not served: {reason}")),
            Outcome::Service(service) if service.excluded => {
                Some(format!("{name}: left to the host (xvip.dev/exclude)"))
            }
            _ => None,
        }
    });
    services.collect()
}

/// What the nodes counted, for whoever has to find out why calls failed.
fn show_reasons(cluster: &Cluster) -> Result<()> {
    for (node, agent) in cluster.agents.iter().enumerate() {
        println!(
            "\nnode{node} $ xvip get status\n{}",
            agent.xvip(&["get", "status"])?
        );
    }
    Ok(())
}

fn show_flows(cluster: &Cluster) -> Result<()> {
    let Some(agent) = cluster.agents.first() else {
        return Ok(());
    };
    let flows = agent.xvip(&["get", "flows"])?;
    println!("\nnode0 $ xvip get flows");
    let lines: Vec<_> = flows.lines().collect();
    for line in lines.iter().take(FLOW_LINES) {
        println!("{line}");
    }
    if lines.len() > FLOW_LINES {
        println!("… {} more lines", lines.len() - FLOW_LINES);
    }
    println!();
    Ok(())
}
