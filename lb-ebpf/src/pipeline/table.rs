//! Writing the flow table: insert, replace, take back.
//!
//! Writers hold the lock word of every bucket they write to, taken with compare-and-exchange a bounded number of times. A key's
//! first bucket is locked by whoever inserts it, so no flow is doubled. Under the lock the key is looked for again; an entry
//! is written between an odd and an even sequence, which is what readers go by. State bytes and the last-seen stamp are
//! stored without the lock: each has one writer that matters.

use super::flow::is_valid;
use super::scratch::{Part, Scratch};
use crate::atomic::{barrier, compare_exchange, exchange};
use crate::family::{Family, key_matches};
use crate::globals;
use crate::stats;
use lb_common::flow::{FlowEntry, TOMBSTONE, WAYS};
use lb_common::hash::{first_bucket, second_bucket};
use lb_common::lifetime::{self, seen};
use lb_common::reason::Reason;

/// Attempts at a lock: a holder on another CPU needs a fraction of a microsecond.
const SPINS: u32 = 64;

/// What came of an insertion.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Inserted {
    /// It stands in the table.
    Done = 0,
    /// The key belongs to a live flow with another instruction.
    Taken = 1,
    /// A bucket stayed locked.
    Busy = 2,
    /// It stands in the table; a live flow gave way and is in [`super::scratch::Scratch::evicted`].
    Evicted = 3,
}

/// Inserts the entry in the scratch's `part` and lets the other half of a flow that gives way go with it.
#[inline(always)]
pub fn insert<F: Family>(part: Part, now: u32) -> Inserted {
    F::prepare(part as u32);
    match F::place(part as u32, now) {
        0 => Inserted::Done,
        1 => Inserted::Taken,
        2 => Inserted::Busy,
        _ => {
            stats::count(Reason::Evicted);
            remove::<F>(Part::EvictedMirror);
            Inserted::Evicted
        }
    }
}

/// Takes back the entry with the key of the scratch's `part`, if its rewrite is the same.
#[inline(always)]
pub fn remove<F: Family>(part: Part) {
    F::prepare(part as u32);
    F::remove(part as u32);
}

/// Puts the next hop in the scratch's `part` into the table's entry, if that is still the same flow's.
#[inline(always)]
pub fn set_next_hop<F: Family>(part: Part) {
    F::prepare(part as u32);
    F::set_next_hop(part as u32);
}

/// Global functions: the verifier walks each of them once, whatever calls them, and not once for every way a caller may come.
/// They take numbers alone and find the entries in this CPU's scratch by themselves.
macro_rules! global {
    ($family:ty, $prepare:ident, $place:ident, $remove:ident, $set_next_hop:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $prepare(part: u32) -> u32 {
            prepare::<$family>(part)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $place(part: u32, now: u32) -> u32 {
            place::<$family>(part, now) as u32
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $remove(part: u32) -> u32 {
            remove_entry::<$family>(part)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $set_next_hop(part: u32) -> u32 {
            store_next_hop::<$family>(part)
        }
    };
}
global!(
    crate::family::V4,
    flow_prepare4,
    flow_place4,
    flow_remove4,
    flow_set_next_hop4
);
global!(
    crate::family::V6,
    flow_prepare6,
    flow_place6,
    flow_remove6,
    flow_set_next_hop6
);

/// The hash in a function of its own: its words would crowd the others' stacks.
#[inline(always)]
fn prepare<F: Family>(part: u32) -> u32 {
    let Some(scratch) = F::scratch() else { return 0 };
    // SAFETY: this CPU's scratch.
    unsafe {
        let entry = part_of::<F>(scratch, part);
        if part == Part::EvictedMirror as u32 {
            mirror::<F>(entry);
        }
        let (pair, ports, proto) = key::<F>(entry);
        (*scratch).hash = F::hash(pair, ports, proto);
    }
    0
}

#[inline(always)]
fn place<F: Family>(part: u32, now: u32) -> Inserted {
    let Some(scratch) = F::scratch() else {
        return Inserted::Busy;
    };
    // SAFETY: this CPU's scratch.
    let (entry, evicted) = unsafe {
        (
            part_of::<F>(scratch, part).cast_const(),
            &raw mut (*scratch).evicted,
        )
    };
    // SAFETY: as above.
    let ((pair, ports, proto), hash) = unsafe { (key::<F>(entry), (*scratch).hash) };
    let (first, second) = (first_bucket(hash, F::mask()), second_bucket(hash, F::mask()));
    let Some(lock) = F::lock(first) else {
        return Inserted::Busy;
    };
    let Some(ways) = F::bucket(first) else {
        return Inserted::Busy;
    };
    if !acquire(lock) {
        return Inserted::Busy;
    }
    let mut found = scan::<F>(scratch, ways, pair, ports, proto, now);
    let mut bucket = ways;
    let mut other_lock = core::ptr::null_mut();
    // SAFETY: a locked bucket of `WAYS` entries.
    let full = unsafe { (&raw const (*ways.add(WAYS - 1)).proto).read_volatile() != 0 };
    if !found.is(Rank::Same)
        && full
        && second != first
        && let Some(second_lock) = F::lock(second)
        && let Some(ways) = F::bucket(second)
    {
        if !acquire(second_lock) {
            // The key may stand there: written to the first bucket now, it would be doubled.
            release(lock);
            return Inserted::Busy;
        }
        let other = scan::<F>(scratch, ways, pair, ports, proto, now);
        if other.is_better_than(found) {
            found = other;
            bucket = ways;
        }
        other_lock = second_lock;
    }
    // SAFETY: the way is in a bucket that is locked here; `entry` and `evicted` are the scratch's.
    let outcome = unsafe {
        let there = bucket.add(found.way());
        if found.is(Rank::Same) && found.is_live() && !may_replace::<F>(there, entry) {
            Inserted::Taken
        } else {
            let gives_way = found.is(Rank::Live);
            if gives_way {
                copy::<F>(there, evicted);
            }
            write::<F>(there, entry);
            if gives_way {
                Inserted::Evicted
            } else {
                Inserted::Done
            }
        }
    };
    if !other_lock.is_null() {
        release(other_lock);
    }
    release(lock);
    outcome
}

/// Does something to the entry with `like`'s key and rewrite, while its bucket is locked and its sequence odd.
#[inline(always)]
fn change<F: Family>(
    like: *const FlowEntry<F::Addr>,
    hash: u64,
    mut how: impl FnMut(*mut FlowEntry<F::Addr>),
) {
    // SAFETY: the caller hands its own scratch entry.
    let (pair, ports, proto) = unsafe { key::<F>(like) };
    let mut choice = 0;
    while choice < 2 {
        let index = if choice == 0 {
            first_bucket(hash, F::mask())
        } else {
            second_bucket(hash, F::mask())
        };
        choice += 1;
        let Some(lock) = F::lock(index) else { return };
        let Some(ways) = F::bucket(index) else { return };
        if !acquire(lock) {
            return;
        }
        let mut way = 0;
        while way < WAYS {
            // SAFETY: a locked bucket of `WAYS` entries.
            unsafe {
                let entry = ways.add(way);
                if key_matches::<F>(entry, pair, ports, proto) && same_rewrite::<F>(entry, like) {
                    let seq = (&raw const (*entry).seq).read_volatile();
                    (&raw mut (*entry).seq).write_volatile(seq | 1);
                    barrier();
                    how(entry);
                    barrier();
                    (&raw mut (*entry).seq).write_volatile((seq | 1).wrapping_add(1));
                }
            }
            way += 1;
        }
        release(lock);
    }
}

#[inline(always)]
fn remove_entry<F: Family>(part: u32) -> u32 {
    let Some(scratch) = F::scratch() else { return 0 };
    // SAFETY: this CPU's scratch.
    let (like, hash) = unsafe { (part_of::<F>(scratch, part), (*scratch).hash) };
    // SAFETY: `change` hands a locked entry.
    change::<F>(like, hash, |entry| unsafe {
        (&raw mut (*entry).proto).write_volatile(TOMBSTONE)
    });
    0
}

#[inline(always)]
fn store_next_hop<F: Family>(part: u32) -> u32 {
    let Some(scratch) = F::scratch() else { return 0 };
    // SAFETY: this CPU's scratch.
    let (new, hash) = unsafe { (part_of::<F>(scratch, part).cast_const(), (*scratch).hash) };
    // SAFETY: `change` hands a locked entry; `new` is this CPU's scratch.
    change::<F>(new, hash, |entry| unsafe {
        let macs = (&raw mut (*entry).macs).cast::<u32>();
        let [a, b, c] = (*new).macs;
        macs.write_volatile(a);
        macs.add(1).write_volatile(b);
        macs.add(2).write_volatile(c);
        (&raw mut (*entry).ifindex).write_volatile((*new).ifindex);
        (&raw mut (*entry).kind).write_volatile((*new).kind);
    });
    0
}

/// The entry a part names.
///
/// # Safety
/// `scratch` is this CPU's.
#[inline(always)]
unsafe fn part_of<F: Family>(scratch: *mut Scratch<F::Addr>, part: u32) -> *mut FlowEntry<F::Addr> {
    // SAFETY: the caller's promise.
    unsafe {
        if part == Part::Forward as u32 {
            &raw mut (*scratch).forward
        } else if part == Part::Reply as u32 {
            &raw mut (*scratch).reply
        } else {
            &raw mut (*scratch).evicted
        }
    }
}

/// Turns a copy of an entry into the key and rewrite of its other half, in place.
///
/// # Safety
/// `entry` is the caller's own copy.
#[inline(always)]
unsafe fn mirror<F: Family>(entry: *mut FlowEntry<F::Addr>) {
    // SAFETY: the caller's promise.
    unsafe {
        let e = &mut *entry;
        let (src, dst, sport, dport) = (e.src, e.dst, e.sport, e.dport);
        (e.src, e.dst, e.sport, e.dport) = (e.new_dst, e.new_src, e.new_dport, e.new_sport);
        (e.new_src, e.new_dst, e.new_sport, e.new_dport) = (dst, src, dport, sport);
    }
}

/// How good a place is; lower is better.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// The key's own.
    Same = 0,
    /// Of a flow that is over: used before what was never used, so that buckets stay short and the second one unread.
    Over = 1,
    /// Never used.
    Empty = 2,
    /// Of a live flow.
    Live = 3,
}

/// How good a place is, as one number: smaller is better. Rank, then recency for live entries of others (the longest idle gives
/// way first), then the way.
#[derive(Clone, Copy)]
struct Score(u64);

impl Score {
    const RANK: u32 = 36;
    const DETAIL: u32 = 4;

    #[inline(always)]
    fn new(rank: Rank, detail: u32, way: usize) -> Self {
        Self((rank as u64) << Self::RANK | (detail as u64) << Self::DETAIL | way as u64)
    }

    #[inline(always)]
    fn is(self, rank: Rank) -> bool {
        self.0 >> Self::RANK == rank as u64
    }

    /// For the key's own place: whether the flow in it lives.
    #[inline(always)]
    fn is_live(self) -> bool {
        (self.0 >> Self::DETAIL) as u32 != 0
    }

    #[inline(always)]
    fn way(self) -> usize {
        self.0 as usize & (WAYS - 1)
    }

    #[inline(always)]
    fn is_better_than(self, other: Self) -> bool {
        self.0 >> Self::DETAIL < other.0 >> Self::DETAIL
    }
}

/// The same score by way of memory: the verifier forgets its value, and with it which of many ways through the scan led to it. With
/// values it would walk all that follows once for each of them.
#[inline(always)]
fn forget<F: Family>(scratch: *mut Scratch<F::Addr>, score: Score) -> Score {
    // SAFETY: this CPU's scratch.
    unsafe {
        (&raw mut (*scratch).score).write_volatile(score.0);
        Score((&raw const (*scratch).score).read_volatile())
    }
}

/// The best place for a key in a locked bucket.
#[inline(always)]
fn scan<F: Family>(
    scratch: *mut Scratch<F::Addr>,
    ways: *const FlowEntry<F::Addr>,
    pair: F::Pair,
    ports: u32,
    proto: u8,
    now: u32,
) -> Score {
    let mut best = forget::<F>(scratch, Score(u64::MAX));
    let mut way = 0;
    while way < WAYS {
        // SAFETY: a bucket holds `WAYS` entries; every field is read once.
        let (state, last, backend, generation, same) = unsafe {
            let entry = ways.add(way);
            (
                (&raw const (*entry).proto).cast::<u32>().read_volatile(),
                (&raw const (*entry).last).read_volatile(),
                (&raw const (*entry).backend).read_volatile(),
                (&raw const (*entry).generation).read_volatile(),
                key_matches::<F>(entry, pair, ports, proto),
            )
        };
        let (there, own, peer) = (state as u8, (state >> 8) as u8, (state >> 16) as u8);
        let live = !lifetime::expired(now, last, globals::timeouts().of(there, own, peer))
            && is_valid(backend, generation);
        let score = if there == 0 {
            Score::new(Rank::Empty, 0, way)
        } else if there == TOMBSTONE {
            Score::new(Rank::Over, 0, way)
        } else if same {
            Score::new(Rank::Same, live as u32, way)
        } else if live {
            Score::new(Rank::Live, !lifetime::age(now, last), way)
        } else {
            Score::new(Rank::Over, 0, way)
        };
        if forget::<F>(scratch, score).0 < best.0 {
            best = score;
        }
        best = forget::<F>(scratch, best);
        way += 1;
    }
    best
}

/// Whether a live entry with the same key may be overwritten: by the same connection's, or by a new connection on a tuple
/// that is closing (S38) if this is its opening direction.
///
/// # Safety
/// Both point at whole entries.
#[inline(always)]
unsafe fn may_replace<F: Family>(there: *const FlowEntry<F::Addr>, entry: *const FlowEntry<F::Addr>) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let closing = ((&raw const (*there).own).read_volatile()
            | (&raw const (*there).peer).read_volatile())
            & seen::CLOSING
            != 0;
        let opening = !(*entry).is_reply() && closing;
        opening || same_rewrite::<F>(there, entry)
    }
}

/// # Safety
/// Both point at whole entries.
#[inline(always)]
unsafe fn same_rewrite<F: Family>(a: *const FlowEntry<F::Addr>, b: *const FlowEntry<F::Addr>) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let ports = |e: *const FlowEntry<F::Addr>| (&raw const (*e).new_sport).cast::<u32>().read_volatile();
        let pair = |e: *const FlowEntry<F::Addr>| F::load((&raw const (*e).new_src).cast());
        ports(a) == ports(b) && F::same(pair(a), pair(b))
    }
}

/// # Safety
/// `entry` points at a whole entry.
#[inline(always)]
unsafe fn key<F: Family>(entry: *const FlowEntry<F::Addr>) -> (F::Pair, u32, u8) {
    // SAFETY: the caller's promise.
    unsafe {
        (
            F::load(entry.cast()),
            (&raw const (*entry).sport).cast::<u32>().read(),
            (*entry).proto,
        )
    }
}

/// Words of an entry, and which of them holds sequence and stamp.
const fn words<F: Family>() -> (usize, usize) {
    (
        size_of::<FlowEntry<F::Addr>>() / 8,
        core::mem::offset_of!(FlowEntry<F::Addr>, seq) / 8,
    )
}

/// Writes an entry for readers to see whole or not at all. The caller holds the bucket's lock.
///
/// # Safety
/// `to` points into a bucket, `from` at the caller's own entry.
#[inline(always)]
unsafe fn write<F: Family>(to: *mut FlowEntry<F::Addr>, from: *const FlowEntry<F::Addr>) {
    let (count, stamp) = words::<F>();
    let (dst, src) = (to.cast::<u64>(), from.cast::<u64>());
    // SAFETY: the caller's promise; entries are whole double words.
    unsafe {
        let odd = (&raw const (*to).seq).read_volatile() | 1;
        dst.add(stamp)
            .write_volatile(odd as u64 | ((*from).last as u64) << 32);
        barrier();
        let mut i = 0;
        while i < count {
            if i != stamp {
                dst.add(i).write_volatile(src.add(i).read());
            }
            i += 1;
        }
        barrier();
        (&raw mut (*to).seq).write_volatile(odd.wrapping_add(1));
    }
}

/// # Safety
/// `from` points into a locked bucket, `to` at the caller's own entry.
#[inline(always)]
unsafe fn copy<F: Family>(from: *const FlowEntry<F::Addr>, to: *mut FlowEntry<F::Addr>) {
    let (count, _) = words::<F>();
    let mut i = 0;
    while i < count {
        // SAFETY: the caller's promise.
        unsafe {
            to.cast::<u64>()
                .add(i)
                .write_volatile(from.cast::<u64>().add(i).read_volatile())
        };
        i += 1;
    }
}

#[inline(always)]
fn acquire(lock: *mut u32) -> bool {
    let mut spin = 0;
    while spin < SPINS {
        // SAFETY: a lock word of a map.
        if unsafe { compare_exchange(lock, 0, 1) } == 0 {
            return true;
        }
        spin += 1;
    }
    false
}

#[inline(always)]
fn release(lock: *mut u32) {
    // SAFETY: a lock word of a map, held here.
    unsafe { exchange(lock, 0) }
}
