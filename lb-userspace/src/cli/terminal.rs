//! The terminal: text once, or again and again, and progress.
//!
//! Owns: the screen's redrawing. A closed pipe (`xvip dump flows | head`) is an end, not an error. Must not know: what the
//! text says.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often a watched view is drawn.
const INTERVAL: Duration = Duration::from_secs(1);
/// ECMA-48: cursor home, then erase from there on; erasing first would flicker.
const HOME: &str = "\x1b[H";
const ERASE_REST: &str = "\x1b[J";
const ERASE_LINE_END: &str = "\x1b[K\n";
/// To the beginning of the line, and erase it.
const ERASE_LINE: &str = "\r\x1b[K";
/// How often progress is told anew.
const TELLING: Duration = Duration::from_millis(100);

/// Prints what `text` makes: once, or every second until the process is stopped.
pub(super) fn show(watch: bool, mut text: impl FnMut() -> Result<String>) -> Result<()> {
    if !watch {
        return print(&text()?).map(drop);
    }
    let terminal = io::stdout().is_terminal();
    loop {
        let text = text()?;
        let open = if terminal { redraw(&text)? } else { print(&text)? };
        if !open {
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
}

fn redraw(text: &str) -> Result<bool> {
    print(&format!(
        "{HOME}{}{ERASE_REST}",
        text.replace('\n', ERASE_LINE_END)
    ))
}

/// Prints text; false when nobody reads any more.
pub(super) fn print(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// One line on standard error about work under way, gone when it is over. Nothing where nobody watches.
#[derive(Debug)]
pub(super) struct Progress {
    watched: bool,
    told: Option<Instant>,
}

impl Progress {
    /// Nothing to tell yet.
    pub(super) fn new() -> Self {
        Self {
            watched: io::stderr().is_terminal(),
            told: None,
        }
    }

    /// Tells, unless it told something a moment ago.
    pub(super) fn say(&mut self, text: &str) {
        if self.watched && self.told.is_none_or(|told| told.elapsed() >= TELLING) {
            self.told = Some(Instant::now());
            eprint!("{ERASE_LINE}{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            eprint!("{ERASE_LINE}");
        }
    }
}
