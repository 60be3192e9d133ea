//! `xvip cleanup`: removes everything that was ever installed.

use anyhow::Result;
use clap::Args;

use super::exit::Failure;
use super::{Installation, terminal};
use crate::dataplane::{self, Removed};

/// Options of `xvip cleanup`.
#[derive(Debug, Args)]
pub struct Cleanup {
    #[command(flatten)]
    installation: Installation,
}

impl Cleanup {
    /// Removes it, and says what.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let bpffs = &self.installation.bpffs;
        let removed = dataplane::cleanup(bpffs)?;
        terminal::print(&text(&removed, &bpffs.display().to_string()))?;
        Ok(())
    }
}

fn text(removed: &Removed, bpffs: &str) -> String {
    if removed.is_empty() {
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
    lines.join("\n") + "\n"
}
