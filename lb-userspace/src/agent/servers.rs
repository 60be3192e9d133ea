//! Where the agent is asked about itself.
//!
//! Owns: which server is started with what. They serve until the agent ends. Must not know: what is answered.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::config::Config;
use crate::dataplane::Reader;
use crate::health::{ProxySite, SharedHealth};
use crate::metrics::{AgentMetrics, MetricsSite, Scraper};
use crate::web;

/// Whether an earlier agent left a datapath that serves: programs are attached only after everything was in the maps.
pub(super) fn has_datapath(bpffs: &Path) -> bool {
    let attached = Reader::open(bpffs).and_then(|reader| reader.attached());
    attached.is_ok_and(|links| !links.is_empty())
}

/// Answers at `healthzBindAddress`. Needs a tokio runtime.
pub(super) fn serve_health(config: &Config, health: &SharedHealth, metrics: &Arc<AgentMetrics>) {
    if let Some(address) = config.healthz_bind_address.address() {
        let site = Arc::new(ProxySite::new(health.clone(), Arc::clone(metrics)));
        tokio::spawn(async move { web::serve_at(address, "health", site).await });
    }
}

/// Answers at `metricsBindAddress`. Needs a tokio runtime, and maps to read.
///
/// # Errors
/// There are no maps.
pub(super) fn serve_metrics(config: &Config, metrics: &Arc<AgentMetrics>) -> Result<()> {
    if let Some(address) = config.metrics_bind_address.address() {
        let reader = Reader::open(&config.bpffs)?;
        let scraper = Scraper::new(Arc::clone(metrics), reader, config.per_service_metrics.clone());
        let site = Arc::new(MetricsSite::new(scraper, config.to_json()));
        tokio::spawn(async move { web::serve_at(address, "metrics", site).await });
    }
    Ok(())
}
