//! How long to wait before the next request.
//!
//! Owns: back-off, jitter, the servers' wishes. Pure: chance is an argument, a number from 0 to 1.

use std::time::Duration;

/// The most that is waited after a first failure; half of it the least.
const FIRST: Duration = Duration::from_millis(500);
/// The most that is waited at all, but for a server that asks for more.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two servers that are tried in turn.
const NEXT_SERVER: Duration = Duration::from_millis(50);
/// So many turns from one way of asking to the next are taken at once: the longest way that leads somewhere, from an expired watch over a
/// streaming list and the cache to pages.
const QUICK_TURNS: u32 = 4;

/// The memory of failures.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Failures in a row.
    failures: u32,
    /// Turns since a watch last had news.
    turns: u32,
}

impl Pace {
    /// Something failed.
    pub(super) fn failed(&mut self, retry_after: Option<Duration>, chance: f64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let back_off = longest.mul_f64(0.5 + chance / 2.0);
        // All who were told the same would come back at the same time.
        let asked = retry_after.map(|wish| wish.mul_f64(1.0 + chance / 4.0));
        back_off.max(asked.unwrap_or_default())
    }

    /// One server failed and the next is to be tried.
    pub(super) fn next_server(&self) -> Duration {
        NEXT_SERVER
    }

    /// What was asked for is to be asked for in another way.
    pub(super) fn turned(&mut self) {
        self.turns = self.turns.saturating_add(1);
    }

    /// Before that other way is tried, if it was no trouble that led to it.
    pub(super) fn next_way(&mut self, chance: f64) -> Duration {
        if self.turns <= QUICK_TURNS {
            Duration::ZERO
        } else {
            self.failed(None, chance)
        }
    }

    /// A list is complete, or a watch lasted. Alone this is no end of trouble: a list whose watch leads nowhere would be asked for
    /// again and again.
    pub(super) fn worked(&mut self) {
        if self.turns <= QUICK_TURNS {
            self.failures = 0;
        }
    }

    /// A watch has news.
    pub(super) fn progress(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let millis = |chance| {
            let mut pace = Pace::default();
            let mut next = || pace.failed(None, chance).as_millis();
            std::iter::repeat_with(&mut next).take(9).collect::<Vec<_>>()
        };
        assert_eq!(
            millis(0.0),
            [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]
        );
        assert_eq!(
            millis(1.0),
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
        );
    }

    #[test]
    fn a_server_is_left_alone_as_long_as_it_wishes() {
        let wish = Some(Duration::from_secs(8));
        assert_eq!(Pace::default().failed(wish, 0.0).as_secs(), 8);
        assert_eq!(
            Pace::default().failed(wish, 1.0).as_secs(),
            10,
            "not all at the same time"
        );
        let mut tired = Pace {
            failures: 10,
            turns: 0,
        };
        assert_eq!(tired.failed(wish, 0.0).as_secs(), 15, "nor earlier than without");
    }

    #[test]
    fn turns_are_quick_until_they_lead_nowhere() {
        let mut pace = Pace::default();
        let turn = |pace: &mut Pace| {
            pace.turned();
            pace.next_way(0.0)
        };
        for _ in 0..QUICK_TURNS {
            assert_eq!(turn(&mut pace), Duration::ZERO);
        }
        // A list that is complete, and a watch that expires, over and over.
        let mut waits = Vec::new();
        for _ in 0..4 {
            waits.push(turn(&mut pace).as_millis());
            pace.worked();
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000]);
        pace.progress();
        assert_eq!(turn(&mut pace), Duration::ZERO);
    }

    #[test]
    fn success_makes_patience_new() {
        let mut pace = Pace::default();
        for _ in 0..5 {
            pace.failed(None, 0.0);
        }
        pace.worked();
        assert_eq!(pace.failed(None, 0.0).as_millis(), 250);
        pace.failed(None, 0.0);
        pace.progress();
        assert_eq!(pace.failed(None, 0.0).as_millis(), 250);
    }
}
