//! What Prometheus is told: S42.
//!
//! Owns: every metric's name, type, labels and meaning (`docs/metrics.md` is held to them), what the agent counts of its own
//! work, and reading the kernel's counters when somebody asks. A scrape reads the maps in a task of its own; the agent's loop
//! never waits for one.
//!
//! Must not know: how Services become plans, or what a map entry means beyond its counters.
//!
//! | file | what it owns |
//! |---|---|
//! | `catalog` | the metrics |
//! | `agent` | what the agent notes: syncs, changes, failures, what there is |
//! | `tally` | pure: sums over Services that cost what changed |
//! | `traffic` | pure: totals that never fall, and which service ports are shown |
//! | `exposition` | pure: values become families become text |
//! | `scrape` | reading the maps |
//! | `site` | `metricsBindAddress`: `/metrics`, `/proxyMode`, `/healthz`, `/configz` |

mod agent;
mod catalog;
mod exposition;
mod scrape;
mod site;
mod tally;
mod traffic;

pub use agent::{AgentMetrics, Sync};
pub use catalog::{CATALOG, Kind, Metric};
pub use scrape::Scraper;
pub use site::MetricsSite;
pub use tally::Tally;
