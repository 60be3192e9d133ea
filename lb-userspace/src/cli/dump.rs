//! `xvip dump`: one map, entry by entry.

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::exit::Failure;
use super::read::Installed;
use super::view::raw::{self, RawMap, Record};
use super::{Installation, output, terminal};

/// Options of `xvip dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// The map; `flows` is flows4 and flows6 together
    #[arg(value_parser = PossibleValuesParser::new(raw::ALL.iter().map(|map| map.name)))]
    map: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    installation: Installation,
}

/// How a dump is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line an entry: `field=value …`
    #[default]
    Text,
    /// A JSON array
    Json,
}

impl Dump {
    /// Prints it.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Some(map) = RawMap::named(&self.map) else {
            return Err(Failure::refused(anyhow::anyhow!("there is no map {}", self.map)));
        };
        let snapshot = Installed::open(&self.installation.bpffs)?.snapshot(map.needs)?;
        terminal::print(&render(&map.records(&snapshot), self.output)?)?;
        Ok(())
    }
}

/// Records in one format.
pub fn render(records: &[Record], format: Format) -> Result<String> {
    match format {
        Format::Text => Ok(records.iter().map(|record| format!("{record}\n")).collect()),
        Format::Json => output::json(records),
    }
}
