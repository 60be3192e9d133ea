//! `xvip get`: tables of what the maps hold.

use anyhow::Result;
use clap::{Args, ValueEnum};
use lb_common::layout::maps;

use super::exit::Failure;
use super::output::{Format, render};
use super::read::Installed;
use super::view::{Scope, affinity, backends, devices, flows, services, status};
use super::{Installation, terminal};

/// Options of `xvip get`.
#[derive(Debug, Args)]
pub struct Get {
    /// What to show
    #[arg(value_enum)]
    what: What,
    /// Only what belongs to Services of this namespace
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All namespaces, which is also what happens without -n
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Draw again every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Flows: also those that are expired or whose backend is gone
    #[arg(long)]
    dead: bool,
    #[command(flatten)]
    installation: Installation,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Service ports with their addresses, endpoints and counters
    #[value(alias = "service", alias = "svc")]
    Services,
    /// Endpoints of service ports
    #[value(alias = "backend", alias = "endpoints")]
    Backends,
    /// Connections in the flow tables
    #[value(alias = "flow", alias = "connections")]
    Flows,
    /// Remembered clients of services with session affinity
    Affinity,
    /// Network devices and the programs on them
    #[value(alias = "device")]
    Devices,
    /// Agent, programs, map fill, and why packets were treated as they were
    Status,
}

impl What {
    /// The maps the view needs.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Services => &[
                maps::FRONTENDS,
                maps::SERVICES,
                maps::SOURCE_RANGES,
                maps::SERVICE_STATS,
                maps::NAMES,
            ],
            Self::Backends => &[
                maps::BACKENDS,
                maps::FLOWS4,
                maps::FLOWS6,
                maps::SETTINGS,
                maps::NAMES,
            ],
            Self::Flows => &[
                maps::FLOWS4,
                maps::FLOWS6,
                maps::BACKENDS,
                maps::SETTINGS,
                maps::NAMES,
            ],
            Self::Affinity => &[
                maps::AFFINITY,
                maps::BACKENDS,
                maps::SERVICES,
                maps::SETTINGS,
                maps::NAMES,
            ],
            Self::Devices => &[maps::DEVICES],
            Self::Status => &[
                maps::FRONTENDS,
                maps::SERVICES,
                maps::BACKENDS,
                maps::FLOWS4,
                maps::FLOWS6,
                maps::AFFINITY,
                maps::SOURCE_RANGES,
                maps::NODE_ADDRS,
                maps::NAMES,
                maps::DEVICES,
                maps::REASONS,
            ],
        }
    }
}

impl Get {
    /// Shows it.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let installed = Installed::open(&self.installation.bpffs)?;
        Ok(terminal::show(self.watch, || self.text(&installed))?)
    }

    fn text(&self, installed: &Installed) -> Result<String> {
        let snapshot = installed.snapshot(self.what.needs())?;
        let scope = self.namespace.clone().map_or(Scope::All, Scope::Namespace);
        let format = self.output;
        match self.what {
            What::Services => render(&services::rows(&snapshot, &scope), format, "No service."),
            What::Backends => render(&backends::rows(&snapshot, &scope), format, "No backend."),
            What::Flows => render(&flows::rows(&snapshot, &scope, self.dead), format, "No flow."),
            What::Affinity => render(
                &affinity::rows(&snapshot, &scope),
                format,
                "No client is remembered.",
            ),
            What::Devices => render(
                &devices::rows(&snapshot, &installed.inventory()?),
                format,
                "No device is attached.",
            ),
            What::Status => status::render(&status::status(&snapshot, &installed.inventory()?), format),
        }
    }
}
