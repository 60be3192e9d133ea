//! The agent's life: start, events, end.
//!
//! Owns: the order of a start and the loop over events. Must not know: what an event means ([`super::sync`]).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::observer::Observer;
use super::sync::Sync;
use super::{accepted, reserved, servers, settings};
use crate::config::Config;
use crate::dataplane::{Dataplane, Reader};
use crate::health::SharedHealth;
use crate::metrics::AgentMetrics;
use crate::node;
use crate::source;

/// How often unused entries are looked for and failures tried again.
const TICK: Duration = Duration::from_secs(1);

/// Serves the Services of `source` until SIGTERM or SIGINT. The datapath goes on without it (S43).
///
/// # Errors
/// The start fails, or the source ends.
pub fn run(config: Config, source: source::Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(config, source));
    // A scan of the manifests may be under way on a thread that cannot be stopped.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config, source: source::Config) -> Result<()> {
    let mut stop = Stop::new()?;
    let options = settings::dataplane(&config);
    let health = SharedHealth::new(servers::has_datapath(&config.bpffs));
    let metrics = Arc::new(AgentMetrics::default());
    // Before anything that takes long: a datapath that goes on serving is healthy meanwhile.
    servers::serve_health(&config, &health, &metrics);
    let load = tokio::task::spawn_blocking(move || Dataplane::open_or_create(&options));
    // The kernel may check the programs for seconds; being asked to stop need not wait for it.
    let mut dataplane = tokio::select! {
        loaded = load => loaded.context("loading the kernel programs")??,
        signal = stop.asked() => {
            stopping(signal);
            return Ok(());
        }
    };
    if let Some(log) = dataplane.kernel_log()? {
        tokio::spawn(log.run());
    }
    prepare_node(&config);

    let cancel = CancellationToken::new();
    let _stop_tasks = cancel.clone().drop_guard();
    let mut network = node::watch(cancel.clone())
        .await
        .context("cannot follow this host's network")?;
    servers::serve_metrics(&config, &metrics)?;
    let needs_node = matches!(source, source::Config::Kube(_));
    let mut source = source::spawn(source, cancel)?;
    let sizes = Reader::open(&config.bpffs)?.sizes()?;
    let observer = Observer::new(health, metrics, source.events.clone(), sizes, needs_node);
    let mut sync = Sync::new(config, dataplane, source.events, observer)?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);

    loop {
        tokio::select! {
            signal = stop.asked() => {
            stopping(signal);
            return Ok(());
        }
            batch = source.updates.recv() => {
                sync.take(batch.context("the source ended")?);
                while let Ok(batch) = source.updates.try_recv() {
                    sync.take(batch);
                }
            }
            changed = network.changed() => {
                changed.context("this host's network is no longer followed")?;
                sync.host_changed();
            }
            _ = tick.tick() => sync.collect(),
        }
        // Not marked as seen: what came since `changed` has to be told by it.
        let state = network.borrow().clone();
        tokio::task::block_in_place(|| sync.bring_about(&state))?;
    }
}

fn stopping(signal: &str) {
    tracing::info!(signal, "stopping; the datapath goes on");
}

/// Keeps our ports from being given to sockets, and says what the host lacks. Neither is reason enough not to serve.
fn prepare_node(config: &Config) {
    let ranges = [config.snat_port_range, config.service_node_port_range];
    match reserved::reserve(&config.state_directory, &config.bpffs, &ranges) {
        Ok(added) if added.is_empty() => {}
        Ok(added) => {
            let added: Vec<String> = added.iter().map(ToString::to_string).collect();
            tracing::info!(
                "reserved ports {} (net.ipv4.ip_local_reserved_ports)",
                added.join(",")
            );
        }
        Err(error) => tracing::warn!("reserving ports: {error}; sockets may take ports of the balancer"),
    }
    match accepted::accept(&config.state_directory, &config.bpffs) {
        Ok(false) => {}
        Ok(true) => tracing::info!("set net.ipv4.conf.lo.accept_local"),
        Err(error) => {
            tracing::warn!(
                "setting net.ipv4.conf.lo.accept_local: {error}; this node cannot call its own nodePorts"
            );
        }
    }
    for warning in node::sysctl_warnings() {
        tracing::warn!("{warning}");
    }
}

/// The signals that end the agent.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
