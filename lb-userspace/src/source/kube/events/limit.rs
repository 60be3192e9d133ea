//! How many events may go out.
//!
//! A bucket of tokens for each object, as client-go's recorder has, so that one object cannot hide the others; and one for the
//! node, so that a thousand bad objects are no load to the API server. What was told is told again, as a repeat, only after
//! a while.
//!
//! Owns: the decision, and the memory it takes. Memory is bounded by the node's bucket: only what passed is remembered, buckets
//! until they are full again, events until the API server forgets them. Must not know: what an event looks like, or how it is
//! sent. Pure: the time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::ObjectRef;

/// How much is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For each object: client-go's figures.
    pub(super) object: Rate,
    /// For the node.
    pub(super) node: Rate,
    /// How long an event is not repeated.
    pub(super) quiet: Duration,
    /// How long the API server keeps an event that is not repeated: its `--event-ttl`, if that is not set.
    pub(super) kept: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            object: Rate {
                burst: 25,
                interval: Duration::from_secs(300),
            },
            node: Rate {
                burst: 100,
                interval: Duration::from_secs(10),
            },
            quiet: Duration::from_secs(600),
            kept: Duration::from_secs(3600),
        }
    }
}

/// So many at once, then one an interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

impl Rate {
    /// Takes a token. A bucket is the time when it will be full; returns that of the bucket with a token less, if there
    /// is one in it.
    fn take(self, full: Instant, now: Instant) -> Option<Instant> {
        let less = full.max(now) + self.interval;
        (less <= now + self.interval * self.burst).then_some(less)
    }
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tell it.
    Create,
    /// It was told: tell that this is its so-manieth time.
    Repeat(i32),
    /// It was told a moment ago: a later repeat counts it.
    Wait,
    /// There have been too many.
    Drop,
}

/// What went out lately.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: Limits,
    node: Instant,
    objects: BTreeMap<ObjectRef, Instant>,
    told: BTreeMap<String, Told>,
}

/// An event that was told.
#[derive(Debug)]
struct Told {
    at: Instant,
    count: i32,
}

impl Limiter {
    /// All buckets are full.
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            node: now,
            objects: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Decides about an event; one that is let through counts as told. `name` is the same for the same event only.
    pub(super) fn judge(&mut self, object: &ObjectRef, name: &str, now: Instant) -> Verdict {
        self.forget_old(now);
        if let Some(told) = self.told.get_mut(name) {
            told.count = told.count.saturating_add(1);
            if now < told.at + self.limits.quiet {
                return Verdict::Wait;
            }
        }
        if !self.take(object, now) {
            return Verdict::Drop;
        }
        let told = self
            .told
            .entry(name.to_owned())
            .or_insert(Told { at: now, count: 1 });
        told.at = now;
        match told.count {
            1 => Verdict::Create,
            count => Verdict::Repeat(count),
        }
    }

    /// An event was not told after all.
    pub(super) fn untold(&mut self, name: &str) {
        self.told.remove(name);
    }

    /// Takes a token from both buckets, or from none.
    fn take(&mut self, object: &ObjectRef, now: Instant) -> bool {
        let full = self.objects.get(object).copied().unwrap_or(now);
        let node = self.limits.node.take(self.node, now);
        let (Some(node), Some(full)) = (node, self.limits.object.take(full, now)) else {
            return false;
        };
        self.node = node;
        self.objects.insert(object.clone(), full);
        true
    }

    /// A full bucket is as good as none, and an event that is gone is a new one.
    fn forget_old(&mut self, now: Instant) {
        self.objects.retain(|_, full| *full > now);
        self.told.retain(|_, told| now < told.at + self.limits.kept);
    }
}

/// How many events were dropped.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    count: u64,
    said: Option<Instant>,
}

impl Dropped {
    /// One more. Returns how many there are since the last time this was said, if it is time to say so.
    pub(super) fn add(&mut self, every: Duration, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.said.is_some_and(|said| now < said + every) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Create, Drop, Repeat, Wait};

    const LIMITS: Limits = Limits {
        object: Rate {
            burst: 2,
            interval: Duration::from_secs(100),
        },
        node: Rate {
            burst: 4,
            interval: Duration::from_secs(10),
        },
        quiet: Duration::from_secs(50),
        kept: Duration::from_secs(1000),
    };

    /// Events as (seconds since the start, object, name) and what becomes of each.
    fn check(steps: &[(u64, &str, &str, Verdict)]) {
        let start = Instant::now();
        let mut limiter = Limiter::new(LIMITS, start);
        for (index, (second, object, name, expected)) in steps.iter().enumerate() {
            let object = ObjectRef::new("Service", "shop", *object);
            let verdict = limiter.judge(&object, name, start + Duration::from_secs(*second));
            assert_eq!(verdict, *expected, "step {index}");
        }
    }

    #[test]
    fn an_object_has_a_burst_and_then_one_event_an_interval() {
        check(&[
            (0, "web", "a", Create),
            (0, "web", "b", Create),
            (0, "web", "c", Drop),
            (0, "api", "d", Create),
            (99, "web", "c", Drop),
            (100, "web", "c", Create),
            (100, "web", "e", Drop),
        ]);
    }

    #[test]
    fn many_objects_together_have_a_burst_and_then_one_event_an_interval() {
        check(&[
            (0, "a", "a", Create),
            (0, "b", "b", Create),
            (0, "c", "c", Create),
            (0, "d", "d", Create),
            (0, "e", "e", Drop),
            (9, "e", "e", Drop),
            (10, "e", "e", Create),
            (10, "f", "f", Drop),
        ]);
    }

    #[test]
    fn what_the_node_has_no_token_for_costs_the_object_none() {
        check(&[
            (0, "a", "1", Create),
            (0, "b", "2", Create),
            (0, "c", "3", Create),
            (0, "d", "4", Create),
            (0, "web", "5", Drop),
            (0, "web", "6", Drop),
            (40, "web", "5", Create),
            (40, "web", "6", Create),
        ]);
    }

    #[test]
    fn a_repeat_waits_and_tells_of_all_since() {
        check(&[
            (0, "web", "a", Create),
            (1, "web", "a", Wait),
            (49, "web", "a", Wait),
            (50, "web", "a", Repeat(4)),
            (99, "web", "a", Wait),
            (150, "web", "a", Repeat(6)),
        ]);
    }

    #[test]
    fn a_repeat_takes_a_token() {
        check(&[
            (0, "web", "a", Create),
            (0, "web", "b", Create),
            (60, "web", "a", Drop),
            (100, "web", "a", Repeat(3)),
        ]);
    }

    #[test]
    fn an_event_the_server_has_forgotten_is_a_new_one() {
        check(&[(0, "web", "a", Create), (1000, "web", "a", Create)]);
    }

    #[test]
    fn an_event_that_could_not_be_told_is_a_new_one() {
        let start = Instant::now();
        let web = ObjectRef::new("Service", "shop", "web");
        let mut limiter = Limiter::new(LIMITS, start);
        assert_eq!(limiter.judge(&web, "a", start), Create);
        limiter.untold("a");
        assert_eq!(limiter.judge(&web, "a", start), Create);
    }

    #[test]
    fn a_flood_of_objects_leaves_little_behind() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Limits::default(), start);
        let (mut buckets, mut events) = (0, 0);
        // Three hours of an event a second, each another's.
        for second in 0..10_800 {
            let name = second.to_string();
            let object = ObjectRef::new("Service", "shop", &name);
            limiter.judge(&object, &name, start + Duration::from_secs(second));
            buckets = buckets.max(limiter.objects.len());
            events = events.max(limiter.told.len());
        }
        assert!((100..=130).contains(&buckets), "{buckets} buckets");
        assert!((300..=460).contains(&events), "{events} events");
    }

    #[test]
    fn drops_are_said_at_once_and_then_now_and_then() {
        let start = Instant::now();
        let mut dropped = Dropped::default();
        let mut add = |second| dropped.add(Duration::from_secs(60), start + Duration::from_secs(second));
        assert_eq!(add(0), Some(1));
        assert_eq!(add(1), None);
        assert_eq!(add(59), None);
        assert_eq!(add(60), Some(3));
        assert_eq!(add(500), Some(1));
    }
}
