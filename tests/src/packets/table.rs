//! The flow table as it lies in the kernel's memory: every place, used or not, read while programs write it.

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use anyhow::{Context, Result};
use aya::maps::MapData;
use bytemuck::Pod;
use lb_common::addr::Address;
use lb_common::flow::{FlowEntry, FlowEntry4, FlowEntry6, TOMBSTONE, WAYS};
use memmap2::{MmapOptions, MmapRaw};

use super::flows::Flow;
use super::who::Family;

/// Looks at a place that is being written.
const ATTEMPTS: usize = 10_000;

/// What stands in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing, ever.
    Unused,
    /// An entry that was taken back.
    TakenBack,
    /// A flow's entry.
    Flow(Flow),
    /// It was being written at every look.
    Busy,
}

impl Place {
    /// The flow, if one stands there.
    #[must_use]
    pub fn flow(self) -> Option<Flow> {
        match self {
            Self::Flow(flow) => Some(flow),
            Self::Unused | Self::TakenBack | Self::Busy => None,
        }
    }
}

/// A mapped flow table.
#[derive(Debug)]
pub struct Table {
    memory: MmapRaw,
    family: Family,
    buckets: u32,
}

impl Table {
    pub(super) fn open(map: &MapData, family: Family, buckets: u32) -> Result<Self> {
        let entry = match family {
            Family::V4 => size_of::<FlowEntry4>(),
            Family::V6 => size_of::<FlowEntry6>(),
        };
        let bytes = usize::try_from(buckets)? * WAYS * entry;
        let memory = MmapOptions::new()
            .len(bytes)
            .map_raw_read_only(map.fd().as_fd().as_raw_fd())
            .context("mapping the flow table")?;
        Ok(Self {
            memory,
            family,
            buckets,
        })
    }

    /// Whose flows it holds.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// All places of a bucket, in order.
    #[must_use]
    pub fn bucket(&self, bucket: u32) -> [Place; WAYS] {
        std::array::from_fn(|way| match self.family {
            Family::V4 => self.read::<FlowEntry4, _>(bucket, way),
            Family::V6 => self.read::<FlowEntry6, _>(bucket, way),
        })
    }

    /// All places with their bucket and way.
    pub fn places(&self) -> impl Iterator<Item = (u32, usize, Place)> + '_ {
        (0..self.buckets).flat_map(|bucket| {
            let places = self.bucket(bucket).into_iter().enumerate();
            places.map(move |(way, place)| (bucket, way, place))
        })
    }

    /// All flows with their bucket and way.
    pub fn flows(&self) -> impl Iterator<Item = (u32, usize, Flow)> + '_ {
        self.places()
            .filter_map(|(bucket, way, place)| Some((bucket, way, place.flow()?)))
    }

    /// One place by the readers' protocol: an even sequence, the entry, the same sequence.
    fn read<E: Entry<A>, A: Address>(&self, bucket: u32, way: usize) -> Place {
        assert!(bucket < self.buckets && way < WAYS, "no such place");
        let start = (bucket as usize * WAYS + way) * size_of::<E>();
        // SAFETY: the place is inside the mapping, which is page-aligned and lives as long as `self`; an entry's size and its
        // sequence's offset are multiples of four. The kernel writes it as whole words.
        let sequence =
            unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(start + E::SEQUENCE).cast()) };
        for _ in 0..ATTEMPTS {
            let before = sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let mut entry = E::zeroed();
                let words = bytemuck::bytes_of_mut(&mut entry).chunks_exact_mut(8).enumerate();
                for (i, word) in words {
                    // SAFETY: as above; entries are whole double words.
                    let shared =
                        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().add(start + 8 * i).cast()) };
                    word.copy_from_slice(&shared.load(Ordering::Relaxed).to_ne_bytes());
                }
                fence(Ordering::Acquire);
                if sequence.load(Ordering::Relaxed) == before {
                    return entry.place();
                }
            }
            std::hint::spin_loop();
        }
        Place::Busy
    }
}

/// An entry of either family.
trait Entry<A>: Pod {
    /// Byte offset of the sequence.
    const SEQUENCE: usize;
    fn place(&self) -> Place;
}

impl<A: Address> Entry<A> for FlowEntry<A>
where
    Self: Pod,
{
    const SEQUENCE: usize = offset_of!(Self, seq);

    fn place(&self) -> Place {
        match Flow::read(self) {
            Some(flow) => Place::Flow(flow),
            None if self.proto == TOMBSTONE => Place::TakenBack,
            None => Place::Unused,
        }
    }
}
