//! Standard output: text once, or again and again.
//!
//! Owns: the screen's redrawing. A closed pipe (`xvip dump flows | head`) is an end, not an error. Must not know: what the
//! text says.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How often a watched view is drawn.
const INTERVAL: Duration = Duration::from_secs(1);
/// ECMA-48: cursor home, then erase from there on; erasing first would flicker.
const HOME: &str = "\x1b[H";
const ERASE_REST: &str = "\x1b[J";
const ERASE_LINE_END: &str = "\x1b[K\n";

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
