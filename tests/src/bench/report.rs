//! A benchmark's result for people, for programs and as a picture.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::presets;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::datapath::{Effort, Figure};
use super::plot;

/// What stands in the JSON file.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `uname -r`.
    pub kernel: String,
    /// Model of the CPU.
    pub cpu: String,
    /// How long was measured.
    pub effort: Effort,
    /// The lines of the table.
    pub figures: Vec<Figure>,
}

impl Report {
    /// A result with what is known of the machine.
    #[must_use]
    pub fn new(effort: Effort, figures: Vec<Figure>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned());
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu,
            effort,
            figures,
        }
    }

    /// The table for the terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "hook",
            "family",
            "packets",
            "xvip ns",
            "floor ns",
            "xvip / floor",
            "(harness ns)",
        ]);
        for figure in &self.figures {
            table.add_row([
                figure.hook.to_string(),
                figure.family.to_owned(),
                figure.scenario.to_string(),
                format!("{:.1}", figure.xvip_ns),
                format!("{:.1}", figure.floor_ns),
                format!("{:.2}", figure.ratio()),
                format!("{:.1}", figure.harness_ns),
            ]);
        }
        for column in 3..7 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!(
            "{table}\n\nNanoseconds a packet, less generator and harness. The floor: one look-up in a kernel LRU hash (two inserts\n\
             for a new flow, of which it chooses neither backend, port nor way), full rewrite, transmit. {} · kernel {} · {} rounds",
            self.cpu, self.kernel, self.effort.rounds
        )
    }

    /// Writes the JSON file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }

    /// Writes `datapath.svg` into a directory, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_plots(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let path = directory.join("datapath.svg");
        fs::write(&path, plot::bars(&self.figures)).with_context(|| format!("writing {}", path.display()))
    }

    /// The figures that break the promise not to exceed the floor.
    #[must_use]
    pub fn above_the_floor(&self) -> Vec<&Figure> {
        self.figures
            .iter()
            .filter(|figure| figure.is_promised() && figure.ratio() > 1.0)
            .collect()
    }
}
