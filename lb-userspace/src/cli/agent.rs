//! `xvip agent`: serves this node's Services until told to stop.

use clap::{ArgAction, Args};

use super::exit::Failure;
use crate::agent::{self, conflicts, logging, settings};
use crate::config::{AgentFlags, Config};

/// Options of `xvip agent`.
#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    flags: AgentFlags,
    /// Log more: -v what the agent does, -vv everything (RUST_LOG overrides)
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Serve although another Service balancer (Cilium, Calico eBPF) seems to be on this node
    #[arg(long)]
    force: bool,
}

impl Agent {
    /// Serves.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let config = Config::load(self.flags.config.as_deref(), &self.flags).map_err(Failure::refused)?;
        logging::start(&config, self.verbose).map_err(Failure::refused)?;
        let source = settings::source(&config).map_err(Failure::refused)?;
        match conflicts::find_here() {
            Some(conflict) if !self.force => return Err(Failure::refused(conflict)),
            Some(conflict) => tracing::warn!("{conflict}; --force was given"),
            None => {}
        }
        Ok(agent::run(config, source)?)
    }
}
