//! `xvip cleanup`: removes everything that was ever installed.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::exit::Failure;
use super::{Installation, terminal};
use crate::agent::{accepted, reserved};
use crate::config::{DEFAULT_STATE_DIRECTORY, PortRange};
use crate::dataplane::{self, Removed};

/// Options of `xvip cleanup`.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// Directory where the agent kept what it must remember; allocated addresses stay in it
    #[arg(long, value_name = "PATH", default_value = DEFAULT_STATE_DIRECTORY)]
    state_dir: PathBuf,
    #[command(flatten)]
    installation: Installation,
}

impl Cleanup {
    /// Removes it, and says what.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let bpffs = &self.installation.bpffs;
        let removed = dataplane::cleanup(bpffs)?;
        let released = reserved::release(&self.state_dir, bpffs).context("releasing reserved ports")?;
        let refused = accepted::refuse(&self.state_dir, bpffs).context("resetting accept_local of lo")?;
        terminal::print(&text(&removed, &released, refused, &bpffs.display().to_string()))?;
        Ok(())
    }
}

fn text(removed: &Removed, released: &[PortRange], refused: bool, bpffs: &str) -> String {
    if removed.is_empty() && released.is_empty() && !refused {
        return format!("Nothing of xvip is under {bpffs}.\n");
    }
    let mut lines = Vec::new();
    lines.extend(removed.links.iter().map(|link| format!("detached {link}")));
    lines.extend(
        removed
            .filters
            .iter()
            .map(|(ifindex, count)| format!("detached {count} filters of device {ifindex}")),
    );
    lines.extend(removed.maps.iter().map(|map| format!("removed {map}")));
    lines.extend(
        removed
            .directories
            .iter()
            .map(|directory| format!("removed {}", directory.display())),
    );
    lines.extend(released.iter().map(|range| format!("released ports {range}")));
    lines.extend(refused.then(|| "reset net.ipv4.conf.lo.accept_local".to_owned()));
    lines.join("\n") + "\n"
}
