//! Which indices of an array are taken.

use std::collections::BTreeSet;

/// Gives out the lowest free index, so that the same history always gives the same indices.
#[derive(Clone, Debug)]
pub(super) struct IndexAllocator {
    /// Free indices below `next`.
    free: BTreeSet<u32>,
    /// From here on everything is free.
    next: u32,
    end: u32,
}

impl IndexAllocator {
    /// Indices from 1 up to, not including, `end`: 0 means "none" in every map.
    pub(super) fn new(end: u32) -> Self {
        Self {
            free: BTreeSet::new(),
            next: 1,
            end,
        }
    }

    /// Takes a certain index; false when it is taken or outside.
    pub(super) fn reserve(&mut self, index: u32) -> bool {
        if index == 0 || index >= self.end {
            return false;
        }
        if index < self.next {
            return self.free.remove(&index);
        }
        self.free.extend(self.next..index);
        self.next = index + 1;
        true
    }

    /// Takes the lowest free index.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.free.pop_first() {
            return Some(index);
        }
        (self.next < self.end).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives an index back; one that was never taken is ignored.
    pub(super) fn release(&mut self, index: u32) {
        if index != 0 && index < self.next {
            self.free.insert(index);
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        (self.next as usize).saturating_sub(1 + self.free.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_index_is_taken_and_never_zero() {
        let mut indices = IndexAllocator::new(4);
        assert_eq!(
            [indices.take(), indices.take(), indices.take()],
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(indices.take(), None);
        indices.release(2);
        assert_eq!(indices.taken(), 2);
        assert_eq!(indices.take(), Some(2));
    }

    #[test]
    fn a_reserved_index_is_not_given_out_and_those_below_it_are() {
        let mut indices = IndexAllocator::new(10);
        assert!(indices.reserve(3));
        assert!(!indices.reserve(3));
        assert!(!indices.reserve(0));
        assert!(!indices.reserve(10));
        assert_eq!(
            [indices.take(), indices.take(), indices.take()],
            [Some(1), Some(2), Some(4)]
        );
    }
}
