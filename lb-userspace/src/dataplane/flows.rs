//! Reading the flow tables while packets write them.
//!
//! Owns: user space's half of the entries' sequence protocol. Nothing here writes.

use std::mem::offset_of;
use std::sync::atomic::{Ordering, fence};

use bytemuck::Pod;
use lb_common::addr::{Addr, Address};
use lb_common::flow::{FlowEntry, FlowEntry4, FlowEntry6, TOMBSTONE};
use lb_common::lifetime::{Timeouts, expired};

use super::error::DataplaneError;
use super::mapped::View;
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
