//! `healthzBindAddress`: `/healthz` and `/livez` (S41).

use http::StatusCode;

use super::answers;
use super::shared::SharedHealth;
use super::state::Now;
use crate::web::{Answer, Site};

/// Who counts what was answered.
pub trait CountAnswers: Send + Sync + 'static {
    /// `/healthz` was answered.
    fn healthz(&self, status: StatusCode);
    /// `/livez` was answered.
    fn livez(&self, status: StatusCode);
}

/// The two paths.
#[derive(Debug)]
pub struct ProxySite<C> {
    health: SharedHealth,
    count: C,
}

impl<C: CountAnswers> ProxySite<C> {
    /// Answers from `health`.
    pub fn new(health: SharedHealth, count: C) -> Self {
        Self { health, count }
    }
}

impl<C: CountAnswers> Site for ProxySite<C> {
    async fn answer(&self, path: &str) -> Answer {
        match path {
            "/healthz" => {
                let answer = answers::healthz(&self.health.lock(), Now::read());
                self.count.healthz(answer.status);
                answer
            }
            "/livez" => {
                let answer = answers::livez(&self.health.lock(), Now::read());
                self.count.livez(answer.status);
                answer
            }
            _ => Answer::not_found(),
        }
    }
}
