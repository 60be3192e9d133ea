//! `metricsBindAddress`: what kube-proxy serves there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::Mutex;

use super::exposition::CONTENT_TYPE;
use super::scrape::Scraper;
use crate::web::{Answer, Site};

/// What `/proxyMode` says, where kube-proxy says `iptables` or `nftables`.
const MODE: &str = "ebpf";
/// For how long an answer to `/metrics` is given again: however many ask, the maps are read this often at most.
const FRESH: Duration = Duration::from_secs(1);

/// The paths.
#[derive(Debug)]
pub struct MetricsSite {
    scraper: Arc<Scraper>,
    /// The configuration in force, as a configuration file would be written in JSON.
    configuration: serde_json::Value,
    last: Mutex<Option<(Instant, String)>>,
}

impl MetricsSite {
    /// Shows these.
    #[must_use]
    pub fn new(scraper: Scraper, configuration: serde_json::Value) -> Self {
        Self {
            scraper: Arc::new(scraper),
            configuration,
            last: Mutex::new(None),
        }
    }

    async fn metrics(&self) -> Answer {
        // Who comes during a reading waits for its answer.
        let mut last = self.last.lock().await;
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return exposition(text.clone());
        }
        let scraper = Arc::clone(&self.scraper);
        let text = tokio::task::spawn_blocking(move || scraper.text()).await;
        match text {
            Ok(text) => {
                *last = Some((Instant::now(), text.clone()));
                exposition(text)
            }
            Err(error) => Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

fn exposition(text: String) -> Answer {
    Answer {
        content_type: CONTENT_TYPE,
        ..Answer::text(text)
    }
}

impl Site for MetricsSite {
    async fn answer(&self, path: &str) -> Answer {
        match path {
            "/metrics" => self.metrics().await,
            "/proxyMode" => Answer::text(MODE),
            // That somebody answers at all; whether the proxy is healthy is healthzBindAddress's.
            "/healthz" => Answer::text("ok"),
            "/configz" => Answer::json(StatusCode::OK, &self.configuration),
            _ => Answer::not_found(),
        }
    }
}
