//! How often unused entries are looked for.
//!
//! A look scans the flow tables, and a backend may be named by a flow for days: looks that find nothing become rare, until
//! something changes. Owns: the interval. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// After a change: just past the grace period.
const SHORTEST: Duration = Duration::from_millis(1_500);
/// While nothing can be freed.
const LONGEST: Duration = Duration::from_secs(60);
/// Changes that never stop put a look off no longer than this, or they would fill the maps with what is unused.
const PATIENCE: Duration = Duration::from_secs(10);

/// When to look next.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Instant,
    /// No change puts the next look off beyond this; known from the first change on.
    latest: Option<Instant>,
}

impl Pace {
    /// The first look is soon.
    #[must_use]
    pub(super) fn new(now: Instant) -> Self {
        Self {
            interval: SHORTEST,
            next: now + SHORTEST,
            latest: None,
        }
    }

    /// Something changed: more may be unused soon.
    pub(super) fn changed(&mut self, now: Instant) {
        let latest = *self.latest.get_or_insert(now + PATIENCE);
        self.interval = SHORTEST;
        self.next = latest.min(now + SHORTEST);
    }

    /// Whether it is time.
    #[must_use]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// A look is over; `freed` tells whether it found anything.
    pub(super) fn looked(&mut self, now: Instant, freed: bool) {
        self.interval = if freed {
            SHORTEST
        } else {
            (self.interval * 2).min(LONGEST)
        };
        self.next = now + self.interval;
        self.latest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_find_nothing_become_rare_until_something_changes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(!pace.is_due(start), "within the grace nothing can be freed");
        let mut now = start + SHORTEST;
        assert!(pace.is_due(now));
        for _ in 0..10 {
            pace.looked(now, false);
            now += LONGEST;
        }
        pace.looked(now, false);
        assert!(!pace.is_due(now + LONGEST - Duration::from_millis(1)));
        assert!(pace.is_due(now + LONGEST));
        pace.changed(now);
        assert!(pace.is_due(now + SHORTEST));
    }

    #[test]
    fn changes_that_never_stop_do_not_put_a_look_off_for_ever() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut looks = 0;
        for _ in 0..60 {
            now += Duration::from_secs(1);
            pace.changed(now);
            if pace.is_due(now) {
                pace.looked(now, true);
                looks += 1;
            }
        }
        assert!((4..=6).contains(&looks), "{looks} looks in a minute of changes");
    }
}
