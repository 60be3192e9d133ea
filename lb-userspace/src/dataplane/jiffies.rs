//! The kernel's tick count, in which the flow table keeps time.
//!
//! Owns: measuring how long a tick is, and telling the count without asking the kernel. The count advances with
//! CLOCK_MONOTONIC (kernel/time/tick-sched.c), so one pair of both read together says it for ever after.

use std::time::Duration;

use lb_common::settings::Settings;
use nix::time::{ClockId, clock_gettime};

use super::error::DataplaneError;

/// The values CONFIG_HZ can have on the architectures xvip runs on.
const POSSIBLE: [u32; 4] = [100, 250, 300, 1000];

/// How long a measurement may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The tick count, read at some moment between two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// CLOCK_MONOTONIC before the count was read, nanoseconds.
    pub(super) before: u64,
    /// The count.
    pub(super) jiffies: u64,
    /// CLOCK_MONOTONIC afterwards.
    pub(super) after: u64,
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(super) fn monotonic_ns() -> Result<u64, DataplaneError> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_err(|e| DataplaneError::io("reading CLOCK_MONOTONIC")(e.into()))?;
    Ok(u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX))
}

/// Reads the count until only one value of HZ explains what was read. Returns it with the last sample.
pub(super) fn measure(
    mut read: impl FnMut() -> Result<Sample, DataplaneError>,
) -> Result<(u32, Sample), DataplaneError> {
    let first = read()?;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let last = read()?;
        if let Some(hz) = explains(&first, &last) {
            return Ok((hz, last));
        }
        if last.after.saturating_sub(first.before) > u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX) {
            return Err(DataplaneError::Refused(format!(
                "the kernel's tick rate is none of {POSSIBLE:?}: {} ticks in {} ns",
                last.jiffies.wrapping_sub(first.jiffies),
                last.after - first.before
            )));
        }
    }
}

/// The one possible rate that agrees with both samples, if it is only one.
fn explains(first: &Sample, last: &Sample) -> Option<u32> {
    let ticks = last.jiffies.wrapping_sub(first.jiffies);
    let shortest = last.before.saturating_sub(first.after);
    let longest = last.after.saturating_sub(first.before);
    let ticks_in = |ns: u64, hz: u32| u128::from(ns) * u128::from(hz) / 1_000_000_000;
    let mut fitting = POSSIBLE.into_iter().filter(|hz| {
        // An interval of n ticks' length holds between n - 1 and n + 1 of them.
        let least = ticks_in(shortest, *hz).saturating_sub(1);
        let most = ticks_in(longest, *hz) + 1;
        (least..=most).contains(&u128::from(ticks))
    });
    match (fitting.next(), fitting.next()) {
        (Some(hz), None) => Some(hz),
        _ => None,
    }
}

/// Tells the tick count, from what `settings` says of it.
#[derive(Clone, Copy, Debug)]
pub struct TickClock {
    hz: u32,
    jiffies: u64,
    monotonic_ns: u64,
}

impl TickClock {
    /// The clock of an installation.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            hz: settings.hz,
            jiffies: settings.jiffies,
            monotonic_ns: settings.monotonic_ns,
        }
    }

    /// The low half of the count now, as flow entries hold it.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub fn now(&self) -> Result<u32, DataplaneError> {
        Ok(self.at(monotonic_ns()?))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the low half of a count that wraps is what is asked for"
    )]
    fn at(&self, monotonic_ns: u64) -> u32 {
        let elapsed = i128::from(monotonic_ns) - i128::from(self.monotonic_ns);
        let ticks = elapsed * i128::from(self.hz) / 1_000_000_000;
        (i128::from(self.jiffies) + ticks) as u32
    }

    /// How long ago the count was `jiffies`, seen from `now`.
    #[must_use]
    pub fn age(&self, now: u32, jiffies: u32) -> Duration {
        // A stamp of another CPU may be a tick ahead: that is no age of years.
        let ticks = now.wrapping_sub(jiffies).cast_signed().max(0).cast_unsigned();
        Duration::from_millis(u64::from(ticks) * 1000 / u64::from(self.hz.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(before_ms: u64, jiffies: u64, after_ms: u64) -> Sample {
        Sample {
            before: before_ms * 1_000_000,
            jiffies,
            after: after_ms * 1_000_000,
        }
    }

    #[test]
    fn a_rate_is_believed_only_when_no_other_explains_the_samples() {
        let start = sample(0, 1000, 1);
        let cases = [
            (sample(100, 1000 + 100, 101), Some(1000)),
            (sample(200, 1000 + 50, 201), Some(250)),
            (sample(200, 1000 + 60, 201), Some(300)),
            (sample(200, 1000 + 20, 201), Some(100)),
            // Too early to tell 250 from 300.
            (sample(20, 1000 + 5, 21), None),
            // Slow calls: between 100 and 300 ms.
            (sample(100, 1000 + 50, 300), None),
            // No rate there is.
            (sample(1000, 1000 + 128, 1001), None),
        ];
        for (last, hz) in cases {
            assert_eq!(explains(&start, &last), hz, "{last:?}");
        }
    }

    #[test]
    fn the_clock_goes_on_from_its_pair_and_back() {
        let clock = TickClock {
            hz: 250,
            jiffies: u64::from(u32::MAX) - 5,
            monotonic_ns: 1_000_000_000,
        };
        assert_eq!(clock.at(1_000_000_000), u32::MAX - 5);
        assert_eq!(clock.at(2_000_000_000), 244, "the low half wraps");
        assert_eq!(clock.at(996_000_000), u32::MAX - 6);
        assert_eq!(clock.age(244, u32::MAX - 5), Duration::from_secs(1));
        assert_eq!(clock.age(244, 245), Duration::ZERO);
    }
}
