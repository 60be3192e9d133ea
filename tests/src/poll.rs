//! Waiting for a condition: polling with a deadline, the only waiting the lab's callers should do.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `probe` until it gives a value, or fails with `what` and the last obstacle at the deadline.
///
/// # Errors
/// When `probe` has still not given a value after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(obstacle) if Instant::now() >= deadline => bail!("{what}: not within {limit:?}: {obstacle}"),
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}
