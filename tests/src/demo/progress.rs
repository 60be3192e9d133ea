//! What people see while they wait, on standard error: a spinner in a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A step under way; says so when it is done.
#[derive(Debug)]
pub(super) struct Step {
    text: String,
    bar: Option<ProgressBar>,
    start: Instant,
}

impl Step {
    /// Begins a step.
    pub(super) fn begin(text: impl Into<String>) -> Self {
        let text = text.into();
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            let style = style.expect("a constant template").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.set_message(text.clone());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            text,
            bar,
            start: Instant::now(),
        }
    }

    /// Says how far it is; only a spinner shows it.
    pub(super) fn at(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {detail}", self.text));
        }
    }

    /// Ends it well.
    pub(super) fn done(mut self, result: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let result = if result.is_empty() {
            String::new()
        } else {
            format!(": {result}")
        };
        eprintln!(
            "✓ {}{result} ({:.1} s)",
            self.text,
            self.start.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        // Left early, by an error that somebody else tells about.
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
