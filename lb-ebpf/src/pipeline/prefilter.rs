//! Stage 2: could this packet be ours at all? A bitmap that stays in the L1 cache, asked before the flow table, which does not.

use crate::family::Family;
use crate::maps::PREFILTER;
use lb_common::prefilter::place;

#[inline(always)]
fn has(bit: u32) -> bool {
    let (word, mask) = place(bit);
    match PREFILTER.get_ptr(word) {
        // SAFETY: a pointer into the map's value; words are written whole.
        Some(word) => unsafe { word.read_volatile() & mask != 0 },
        None => true,
    }
}

/// Whether source or destination occurs as frontend or backend.
#[inline(always)]
pub fn passes<F: Family>(pair: F::Pair) -> bool {
    has(F::prefilter_bit(F::second(pair))) || has(F::prefilter_bit(F::first(pair)))
}
