//! Stage 3: the one look-up of an established flow.
//!
//! Readers take no lock. The protocol: sequence, key, instruction, sequence again; an odd or a changed sequence means that the
//! entry was being written, and the look is repeated. Reading the key before the sequence would let a reader use the
//! instruction of the flow that replaced its own between the two.

use crate::atomic::barrier;
use crate::family::{Family, key_matches};
use crate::globals;
use crate::maps::BACKENDS;
use lb_common::flow::{FlowEntry, Forward, HookClass, REPLY, WAYS, class_of, forward_of};
use lb_common::hash::{first_bucket, second_bucket};
use lb_common::lifetime;
use lb_common::port::Port;

/// Looks at an entry that is being written, before giving up.
const ATTEMPTS: usize = 4;

/// A consistent copy of an entry's instruction and state.
pub struct Hit<F: Family> {
    /// The entry, for its state; it may have been given to another flow since.
    entry: *mut FlowEntry<F::Addr>,
    /// Its sequence when it was read.
    seq: u32,
    /// The addresses after the rewrite.
    pub new_pair: F::Pair,
    /// The ports after the rewrite, as loaded.
    pub new_ports: u32,
    /// See [`FlowEntry::delta_addr`].
    pub delta_addr: u16,
    /// See [`FlowEntry::delta_port`].
    pub delta_port: u16,
    /// First eight bytes of the new Ethernet header.
    pub macs: u64,
    /// The next four.
    pub macs_rest: u32,
    /// See [`FlowEntry::ifindex`].
    pub ifindex: u32,
    /// See [`FlowEntry::backend`].
    pub backend: u32,
    /// See [`FlowEntry::generation`].
    pub generation: u16,
    /// See [`FlowEntry::kind`].
    pub kind: u8,
    /// See [`FlowEntry::own`].
    pub own: u8,
    /// See [`FlowEntry::peer`].
    pub peer: u8,
    /// See [`FlowEntry::mirror`].
    pub mirror: u8,
    /// See [`FlowEntry::last`].
    pub last: u32,
}

/// What a look-up found.
pub enum Lookup<F: Family> {
    /// The flow.
    Hit(Hit<F>),
    /// No such flow.
    Miss,
    /// The flow, but it was being written at every look: never to be taken for a miss.
    Busy,
}

impl<F: Family> Hit<F> {
    /// Whether the entry is still the one that was read. State is stored without the lock, on this condition: of a flow that takes
    /// the place in the few instructions in between, a byte of state may be wrong for a second.
    #[inline(always)]
    fn is_unchanged(&self) -> bool {
        // SAFETY: `entry` points into a bucket.
        unsafe { (&raw const (*self.entry).seq).read_volatile() == self.seq }
    }

    /// Stores what this direction has shown.
    #[inline(always)]
    pub fn set_own(&mut self, own: u8) {
        if self.is_unchanged() {
            // SAFETY: as above; this direction is the byte's only writer.
            unsafe { (&raw mut (*self.entry).own).write_volatile(own) };
        }
        self.own = own;
    }

    /// Stores what the other half has shown.
    #[inline(always)]
    pub fn set_peer(&mut self, peer: u8) {
        if self.is_unchanged() {
            // SAFETY: as above.
            unsafe { (&raw mut (*self.entry).peer).write_volatile(peer) };
        }
        self.peer = peer;
    }

    /// Stores the last-seen stamp.
    #[inline(always)]
    pub fn touch(&self, now: u32) {
        if self.is_unchanged() {
            // SAFETY: as above.
            unsafe { (&raw mut (*self.entry).last).write_volatile(now) };
        }
    }

    /// Where it acts.
    #[inline(always)]
    pub fn class(&self) -> HookClass {
        class_of(self.kind)
    }

    /// How its packets go on.
    #[inline(always)]
    pub fn forward(&self) -> Forward {
        forward_of(self.kind)
    }

    /// Whether it is for packets from the backend to the client.
    #[inline(always)]
    pub fn is_reply(&self) -> bool {
        self.kind & REPLY != 0
    }

    /// The low half of its present backend's generation equals its own: even, so alive.
    #[inline(always)]
    pub fn is_valid(&self) -> bool {
        is_valid(self.backend, self.generation)
    }

    /// Whether its last packet came less than `ticks` ago. A stamp ahead of this CPU's clock says no, in one comparison: the full
    /// stage looks closer.
    #[inline(always)]
    pub fn is_fresh(&self, now: u32, ticks: u32) -> bool {
        now.wrapping_sub(self.last) < ticks
    }

    /// Ticks without a packet.
    #[inline(always)]
    pub fn idle(&self, now: u32) -> u32 {
        lifetime::age(now, self.last)
    }

    /// Whether it has outlived its idle time.
    #[inline(always)]
    pub fn is_expired(&self, now: u32, proto: u8) -> bool {
        lifetime::expired(now, self.last, globals::timeouts().of(proto, self.own, self.peer))
    }
}

/// Whether a flow made when the backend had this generation is good.
#[inline(always)]
pub fn is_valid(backend: u32, generation: u16) -> bool {
    match BACKENDS.get_ptr(backend) {
        // SAFETY: a pointer into the map's value; words are written whole.
        Some(backend) => unsafe { (&raw const (*backend).generation).read_volatile() as u16 == generation },
        None => false,
    }
}

/// The flow of a tuple. First the entry is found by its key alone, then it is read by the protocol above: one copy of the reading
/// code instead of one for each place an entry may stand in.
#[inline(always)]
pub fn look_up<F: Family>(pair: F::Pair, ports: u32, proto: u8) -> Lookup<F> {
    let Some(entry) = find::<F>(pair, ports, proto) else {
        return Lookup::Miss;
    };
    let mut attempt = 0;
    while attempt < ATTEMPTS {
        // SAFETY: `entry` points into a map value; every field is read once, as a whole word.
        unsafe {
            let seq = (&raw const (*entry).seq).read_volatile();
            barrier();
            if !key_matches::<F>(entry, pair, ports, proto) {
                // It has just given way to another.
                return Lookup::Miss;
            }
            let hit = read::<F>(entry, seq);
            barrier();
            if seq & 1 == 0 && (&raw const (*entry).seq).read_volatile() == seq {
                return Lookup::Hit(hit);
            }
        }
        attempt += 1;
    }
    Lookup::Busy
}

/// The entry with the tuple's key, if it stands in either bucket.
#[inline(always)]
fn find<F: Family>(pair: F::Pair, ports: u32, proto: u8) -> Option<*mut FlowEntry<F::Addr>> {
    let hash = F::hash(pair, ports, proto);
    let first = F::bucket(first_bucket(hash, F::mask()))?;
    if let Some(entry) = in_bucket::<F>(first, pair, ports, proto) {
        return Some(entry);
    }
    // Places fill from the first to the last and never look empty again.
    // SAFETY: a bucket holds `WAYS` entries.
    if unsafe { (&raw const (*first.add(WAYS - 1)).proto).read_volatile() } == 0 {
        return None;
    }
    in_bucket::<F>(F::bucket(second_bucket(hash, F::mask()))?, pair, ports, proto)
}

#[inline(always)]
fn in_bucket<F: Family>(
    first: *mut FlowEntry<F::Addr>,
    pair: F::Pair,
    ports: u32,
    proto: u8,
) -> Option<*mut FlowEntry<F::Addr>> {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: a bucket holds `WAYS` entries.
        let entry = unsafe { first.add(way) };
        // SAFETY: as above.
        if unsafe { key_matches::<F>(entry, pair, ports, proto) } {
            return Some(entry);
        }
        way += 1;
    }
    None
}

/// Copies an entry's instruction and state, word by word.
///
/// # Safety
/// `entry` points into a bucket. The copy is consistent only if the sequence around it was.
#[inline(always)]
unsafe fn read<F: Family>(entry: *mut FlowEntry<F::Addr>, seq: u32) -> Hit<F> {
    // SAFETY: the caller's promise; the offsets of the double words are multiples of eight in both families' entries.
    unsafe {
        let state = (&raw const (*entry).proto).cast::<u32>().read_volatile();
        let last = (&raw const (*entry).last).read_volatile();
        let new_pair = F::load((&raw const (*entry).new_src).cast());
        let ports = (&raw const (*entry).new_sport).cast::<u64>().read_volatile();
        let macs = (&raw const (*entry).macs).cast::<u64>().read_volatile();
        let macs_rest = (&raw const (*entry).macs).cast::<u32>().add(2).read_volatile();
        let ifindex = (&raw const (*entry).ifindex).read_volatile();
        let backend = (&raw const (*entry).backend).read_volatile();
        let tail = (&raw const (*entry).generation).cast::<u32>().read_volatile();
        Hit {
            entry,
            seq,
            new_pair,
            new_ports: ports as u32,
            delta_addr: (ports >> 32) as u16,
            delta_port: (ports >> 48) as u16,
            macs,
            macs_rest,
            ifindex,
            backend,
            generation: tail as u16,
            kind: (tail >> 16) as u8,
            own: (state >> 8) as u8,
            peer: (state >> 16) as u8,
            mirror: (state >> 24) as u8,
            last,
        }
    }
}

/// Ports side by side, as a header holds them.
#[inline(always)]
pub fn ports(src: Port, dst: Port) -> u32 {
    src.0 as u32 | (dst.0 as u32) << 16
}

/// The same ports the other way round.
#[inline(always)]
pub fn swap_ports(ports: u32) -> u32 {
    ports.rotate_right(16)
}

/// The same addresses the other way round.
#[inline(always)]
pub fn swap_pair<F: Family>(pair: F::Pair) -> F::Pair {
    F::pair(F::second(pair), F::first(pair))
}
