//! Reading the flow tables while packets write them.
//!
//! Owns: user space's half of the entries' sequence protocol. Nothing here writes.

use std::mem::offset_of;
use std::sync::atomic::{Ordering, fence};

use bytemuck::Pod;
use lb_common::addr::{Addr, Address};
use lb_common::flow::{FlowEntry, FlowEntry4, FlowEntry6, TOMBSTONE, WAYS};
use lb_common::lifetime::{Timeouts, expired};
use lb_common::prefilter;

use super::error::DataplaneError;
use super::mapped::View;
use crate::reconcile::maps::{FlowQuery, FlowsNaming};
use aya::maps::MapData;

/// Attempts at an entry before it counts as busy. A writer holds one for tens of nanoseconds.
const ATTEMPTS: usize = 10_000;

/// An entry of either family, as far as readers of the whole table care.
pub trait Flow: Pod + private::Entry {
    /// Key: source and destination address on the wire.
    fn key_addresses(&self) -> [Addr; 2];
    /// Index of its backend.
    fn backend(&self) -> u32;
    /// Whether it has outlived its timeout at `now`, both in jiffies.
    fn expired(&self, now: u32, timeouts: &Timeouts) -> bool;
}

mod private {
    pub trait Entry {
        /// Byte offset of the sequence word.
        const SEQUENCE: usize;
        /// Whether the place is taken.
        fn occupied(&self) -> bool;
    }
}

impl private::Entry for FlowEntry4 {
    const SEQUENCE: usize = offset_of!(Self, seq);
    fn occupied(&self) -> bool {
        self.proto != 0 && self.proto != TOMBSTONE
    }
}

impl private::Entry for FlowEntry6 {
    const SEQUENCE: usize = offset_of!(Self, seq);
    fn occupied(&self) -> bool {
        self.proto != 0 && self.proto != TOMBSTONE
    }
}

impl<A: Address + 'static> Flow for FlowEntry<A>
where
    Self: Pod + private::Entry,
{
    fn key_addresses(&self) -> [Addr; 2] {
        [self.src.into(), self.dst.into()]
    }
    fn backend(&self) -> u32 {
        self.backend
    }
    fn expired(&self, now: u32, timeouts: &Timeouts) -> bool {
        expired(now, self.last, timeouts.of(self.proto, self.own, self.peer))
    }
}

/// A flow table, mapped for reading as long as this value lives.
#[derive(Debug)]
pub struct FlowTable<E> {
    view: View<E>,
}

/// An entry that was being written during every attempt to read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Busy;

impl<E: Flow> FlowTable<E> {
    pub(super) fn open(map: &MapData, name: &str) -> Result<Self, DataplaneError> {
        Ok(Self {
            view: View::open(map, name)?,
        })
    }

    /// Places in the table.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.view.len()
    }

    /// Every entry there is, dead or alive, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = Result<E, Busy>> + '_ {
        (0..self.view.len()).filter_map(|index| match self.read(index) {
            Some(Ok(entry)) if !entry.occupied() => None,
            other => other,
        })
    }

    /// Every entry that has not outlived its timeout at `now`, both in jiffies. A busy one is left out: for the eye, not for
    /// decisions.
    pub fn live(&self, now: u32, timeouts: Timeouts) -> impl Iterator<Item = E> + '_ {
        self.iter()
            .flatten()
            .filter(move |entry| !entry.expired(now, &timeouts))
    }

    /// How many entries have not outlived their timeout, by a look at no more than `sample` places. Whole buckets are looked at,
    /// since their places fill in order, evenly spread; a busy entry counts.
    #[must_use]
    pub fn estimate_live(&self, sample: usize, now: u32, timeouts: &Timeouts) -> usize {
        let stride = self.capacity().div_ceil(sample.max(WAYS));
        let buckets = (0..self.capacity() / WAYS).step_by(stride);
        let places = buckets.flat_map(|bucket| (0..WAYS).map(move |way| bucket * WAYS + way));
        let alive = places.filter(|index| match self.read(*index) {
            Some(Ok(entry)) => entry.occupied() && !entry.expired(now, timeouts),
            Some(Err(Busy)) => true,
            None => false,
        });
        alive.count() * stride
    }

    /// Adds to `found` what of `query` the entries name that are alive at `now`. A busy entry may name anything.
    pub(super) fn naming(&self, query: &FlowQuery, now: u32, timeouts: &Timeouts, found: &mut FlowsNaming) {
        for entry in self.iter() {
            let Ok(entry) = entry else {
                *found = query.clone();
                return;
            };
            if entry.expired(now, timeouts) {
                continue;
            }
            if query.backends.contains(&entry.backend()) {
                found.backends.insert(entry.backend());
            }
            for bit in entry.key_addresses().map(prefilter::bit) {
                if query.prefilter_bits.contains(&bit) {
                    found.prefilter_bits.insert(bit);
                }
            }
        }
    }

    /// One entry, whole: its sequence is even and the same before and after its fields were read.
    fn read(&self, index: usize) -> Option<Result<E, Busy>> {
        let sequence = self.view.field32(index, E::SEQUENCE)?;
        for _ in 0..ATTEMPTS {
            // Acquire: the fields are read after the sequence.
            let before = sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let entry = self.view.get(index)?;
                // The fields are read before the sequence is looked at again.
                fence(Ordering::Acquire);
                if sequence.load(Ordering::Relaxed) == before {
                    return Some(Ok(entry));
                }
            }
            std::hint::spin_loop();
        }
        Some(Err(Busy))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::AtomicBool;

    use bytemuck::Zeroable;
    use lb_common::addr::Addr4;
    use lb_common::lifetime::seen;
    use lb_common::protocol::UDP;

    use super::*;
    use crate::dataplane::mapped::Mapped;

    fn entry(dst: u32, backend: u32, last: u32) -> FlowEntry4 {
        FlowEntry4 {
            src: Addr4(7),
            dst: Addr4(dst),
            proto: UDP,
            own: seen::OPEN,
            last,
            backend,
            ..FlowEntry4::zeroed()
        }
    }

    fn table(entries: &[FlowEntry4]) -> FlowTable<FlowEntry4> {
        let memory = Mapped::anonymous(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            assert!(memory.set(index, entry));
        }
        FlowTable {
            view: memory.into_view(),
        }
    }

    const TIMEOUTS: Timeouts = Timeouts::SECONDS;

    #[test]
    fn empty_places_and_tombstones_are_passed_over() {
        let tombstone = FlowEntry4 {
            proto: TOMBSTONE,
            ..entry(1, 1, 0)
        };
        let table = table(&[FlowEntry4::zeroed(), tombstone, entry(2, 2, 0)]);
        assert_eq!(table.iter().collect::<Vec<_>>(), [Ok(entry(2, 2, 0))]);
    }

    #[test]
    fn an_entry_that_stays_odd_is_busy_and_not_shown() {
        let writing = FlowEntry4 {
            seq: 3,
            ..entry(1, 1, 0)
        };
        let table = table(&[writing, entry(2, 2, 0)]);
        assert_eq!(table.iter().collect::<Vec<_>>(), [Err(Busy), Ok(entry(2, 2, 0))]);
        assert_eq!(table.live(0, TIMEOUTS).collect::<Vec<_>>(), [entry(2, 2, 0)]);
    }

    #[test]
    fn live_entries_are_counted_or_estimated_from_a_part_of_the_buckets() {
        let now = 1000;
        let idle = entry(1, 1, now - TIMEOUTS.udp - 1);
        let busy = FlowEntry4 {
            seq: 1,
            ..entry(2, 2, now)
        };
        // Eight buckets: the first two places of each hold flows, the third an idle one.
        let bucket = [entry(1, 1, now), busy, idle, FlowEntry4::zeroed()];
        let table = table(&bucket.repeat(8));
        assert_eq!(table.estimate_live(32, now, &TIMEOUTS), 16, "the whole table");
        assert_eq!(table.estimate_live(1 << 20, now, &TIMEOUTS), 16);
        assert_eq!(table.estimate_live(8, now, &TIMEOUTS), 16, "two buckets of eight");
        assert_eq!(table.estimate_live(0, now, &TIMEOUTS), 16, "one bucket at least");
    }

    #[test]
    fn only_live_entries_name_backends_and_addresses() {
        let bit = |a: u32| prefilter::bit4(Addr4(a));
        let query = FlowQuery {
            backends: BTreeSet::from([1, 2, 3]),
            prefilter_bits: BTreeSet::from([bit(7), bit(11), bit(12), bit(13)]),
        };
        let now = 1000;
        let alive = [entry(11, 1, now), entry(50, 9, now)];
        let idle = entry(12, 2, now - TIMEOUTS.udp - 1);
        let mut found = FlowsNaming::default();
        table(&[alive[0], idle, alive[1]]).naming(&query, now, &TIMEOUTS, &mut found);
        assert_eq!(found.backends, BTreeSet::from([1]));
        assert_eq!(found.prefilter_bits, BTreeSet::from([bit(7), bit(11)]));

        let busy = FlowEntry4 { seq: 1, ..alive[0] };
        table(&[busy]).naming(&query, now, &TIMEOUTS, &mut found);
        assert_eq!(found, query, "what cannot be read may name anything");
    }

    /// One writer by the kernel programs' protocol, one reader: every entry read is of one writing.
    #[test]
    fn an_entry_under_a_writer_is_never_a_mixture() {
        let memory = Mapped::<FlowEntry4>::anonymous(1);
        assert!(memory.set(0, &entry(0, 0, 0)));
        let table = FlowTable {
            view: memory.into_view(),
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let word = |offset| table.view.field32(0, offset).unwrap();
                let sequence = word(offset_of!(FlowEntry4, seq));
                for round in 1..200_000_u32 {
                    sequence.store(round * 2 - 1, Ordering::Relaxed);
                    fence(Ordering::Release);
                    word(offset_of!(FlowEntry4, dst)).store(round, Ordering::Relaxed);
                    word(offset_of!(FlowEntry4, backend)).store(round, Ordering::Relaxed);
                    word(offset_of!(FlowEntry4, last)).store(round, Ordering::Relaxed);
                    sequence.store(round * 2, Ordering::Release);
                }
                done.store(true, Ordering::Release);
            });
            let mut reads = 0;
            while !done.load(Ordering::Acquire) || reads == 0 {
                if let Some(Ok(read)) = table.read(0) {
                    assert_eq!((read.dst.0, read.last), (read.backend, read.backend));
                    assert_eq!(read.seq, read.backend * 2);
                    reads += 1;
                }
            }
        });
    }
}
