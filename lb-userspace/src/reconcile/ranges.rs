//! Which ranges of the slots array are taken.
//!
//! Not a crate's allocator: after a restart the ranges in use are found in the maps and must be reserved where they
//! stand, which `range-alloc` and `offset-allocator` cannot do.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::service::SlotRange;

/// A best-fit allocator: the smallest free range that is large enough, the lowest of equals. Neighbouring free ranges
/// are one.
#[derive(Clone, Debug)]
pub(super) struct RangeAllocator {
    /// Free ranges: offset to length.
    by_offset: BTreeMap<u32, u32>,
    /// The same as (length, offset).
    by_len: BTreeSet<(u32, u32)>,
}

impl RangeAllocator {
    /// Everything from 0 to `len` is free.
    pub(super) fn new(len: u32) -> Self {
        let mut ranges = Self {
            by_offset: BTreeMap::new(),
            by_len: BTreeSet::new(),
        };
        ranges.insert(0, len);
        ranges
    }

    /// Takes `len` slots.
    pub(super) fn take(&mut self, len: u32) -> Option<SlotRange> {
        let &(free, offset) = self.by_len.range((len, 0)..).next()?;
        self.remove(offset, free);
        self.insert(offset + len, free - len);
        Some(SlotRange { offset, len })
    }

    /// Takes a certain range; false when a part of it is taken or outside.
    pub(super) fn reserve(&mut self, range: SlotRange) -> bool {
        let Some((&offset, &free)) = self.by_offset.range(..=range.offset).next_back() else {
            return false;
        };
        let (Some(end), free_end) = (range.offset.checked_add(range.len), offset + free) else {
            return false;
        };
        if end > free_end {
            return false;
        }
        self.remove(offset, free);
        self.insert(offset, range.offset - offset);
        self.insert(end, free_end - end);
        true
    }

    /// Gives a range back.
    pub(super) fn release(&mut self, range: SlotRange) {
        let (mut offset, mut len) = (range.offset, range.len);
        if let Some((&before, &before_len)) = self.by_offset.range(..offset).next_back() {
            debug_assert!(before + before_len <= offset, "{range:?} was free");
            if before + before_len == offset {
                self.remove(before, before_len);
                (offset, len) = (before, before_len + len);
            }
        }
        if let Some(&after_len) = self.by_offset.get(&(offset + len)) {
            self.remove(offset + len, after_len);
            len += after_len;
        }
        self.insert(offset, len);
    }

    /// How many slots are free.
    pub(super) fn free(&self) -> u64 {
        self.by_offset.values().map(|&len| u64::from(len)).sum()
    }

    fn insert(&mut self, offset: u32, len: u32) {
        if len != 0 {
            self.by_offset.insert(offset, len);
            self.by_len.insert((len, offset));
        }
    }

    fn remove(&mut self, offset: u32, len: u32) {
        self.by_offset.remove(&offset);
        self.by_len.remove(&(len, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset: u32, len: u32) -> SlotRange {
        SlotRange { offset, len }
    }

    #[test]
    fn the_smallest_hole_that_fits_is_used_first() {
        let mut ranges = RangeAllocator::new(100);
        let taken: Vec<_> = [10, 5, 20, 5].map(|len| ranges.take(len).unwrap()).into();
        assert_eq!(taken, [range(0, 10), range(10, 5), range(15, 20), range(35, 5)]);
        ranges.release(taken[0]);
        ranges.release(taken[2]);
        assert_eq!(ranges.take(8), Some(range(0, 8)));
        assert_eq!(ranges.take(12), Some(range(15, 12)));
        assert_eq!(ranges.take(61), None);
        assert_eq!(ranges.take(60), Some(range(40, 60)));
    }

    #[test]
    fn holes_grow_together_again() {
        let mut ranges = RangeAllocator::new(30);
        let taken: Vec<_> = [10, 10, 10].map(|len| ranges.take(len).unwrap()).into();
        for index in [0, 2, 1] {
            ranges.release(taken[index]);
        }
        assert_eq!(ranges.take(30), Some(range(0, 30)));
    }

    #[test]
    fn a_range_is_reserved_where_it_stands_and_only_once() {
        let mut ranges = RangeAllocator::new(30);
        assert!(ranges.reserve(range(10, 5)));
        assert!(!ranges.reserve(range(14, 2)));
        assert!(!ranges.reserve(range(9, 2)));
        assert!(!ranges.reserve(range(29, 2)));
        assert!(!ranges.reserve(range(20, u32::MAX)));
        assert!(ranges.reserve(range(15, 15)));
        assert_eq!(ranges.free(), 10);
        assert_eq!(ranges.take(10), Some(range(0, 10)));
    }
}
