//! The command line: what a user types, one verb a file.
//!
//! Owns: the verbs and their options, the exit status, where text goes. Must not know: how rows are made ([`view`]), how maps
//! are read (`dataplane`), how the agent works.

pub mod agent;
pub mod check;
pub mod cleanup;
pub mod dump;
pub mod exit;
pub mod get;
pub mod output;
mod read;
mod terminal;
pub mod view;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nix::unistd::geteuid;

pub use exit::Failure;

use crate::config::DEFAULT_BPFFS;

/// Balances Kubernetes Services with eBPF, and shows what it does.
///
/// The agent compiles Services and EndpointSlices into pinned BPF maps; programs on the network devices carry the traffic by
/// those maps alone. All other commands read the maps and work whether an agent runs or not.
#[derive(Debug, Parser)]
#[command(
    name = "xvip",
    version,
    max_term_width = 110,
    after_help = "Exit status: 0 done, 1 failed, 2 usage or configuration refused.\n\nSee what is installed with `xvip get status`."
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve this node's Services until told to stop; the datapath goes on afterwards
    Agent(Box<agent::Agent>),
    /// Check configuration and manifests, or the cluster, and say what would be programmed; touches nothing
    Check(Box<check::Check>),
    /// Show services, backends, flows, affinity, devices or the status
    Get(get::Get),
    /// Print a map's entries, decoded, one a line
    Dump(dump::Dump),
    /// Detach every program and remove every map that xvip ever installed
    Cleanup(cleanup::Cleanup),
}

/// Which installation a command looks at.
#[derive(Clone, Debug, Args)]
pub struct Installation {
    /// Directory of a BPF file system where the agent pins its maps and links
    #[arg(long, value_name = "PATH", default_value = DEFAULT_BPFFS)]
    pub bpffs: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// What went wrong, and with it the exit status.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let outcome = match cli.verb {
        Verb::Check(check) => return check.run(),
        Verb::Agent(agent) => agent.run(),
        Verb::Get(get) => get.run(),
        Verb::Dump(dump) => dump.run(),
        Verb::Cleanup(cleanup) => cleanup.run(),
    };
    outcome.map_err(|failure| match failure {
        Failure::Failed(error) if !geteuid().is_root() => {
            Failure::Failed(error.context("this needs root (CAP_BPF and access to the BPF file system)"))
        }
        other => other,
    })
}
