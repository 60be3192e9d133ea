//! Stage 2: could this packet be ours at all? A bitmap that stays in the L1 cache, asked before the flow table, which does not.

use crate::family::Family;
use crate::hook::{Hook, Place, Verdict};
use crate::maps::PREFILTER;
use lb_common::prefilter::{frontend_bit, place};
use lb_common::reason::Reason;

#[inline(always)]
fn has(bit: u32) -> bool {
    let (word, mask) = place(bit);
    match PREFILTER.get_ptr(word) {
        // SAFETY: a pointer into the map's value; words are written whole.
        Some(word) => unsafe { word.read_volatile() & mask != 0 },
        None => true,
    }
}

/// What becomes of a packet whose addresses occur neither as frontend nor as backend; `None` if one does.
#[inline(always)]
pub fn screen<F: Family, H: Hook>(hook: &H, pair: F::Pair) -> Option<Verdict> {
    let dst = F::second(pair);
    if has(F::prefilter_bit(dst)) {
        return None;
    }
    // Nobody serves it, and nobody between here and the wire will (S24).
    if matches!(hook.place(), Place::UplinkEgress) && F::is_service_address(dst) {
        return Some(Verdict::Drop(Reason::Unserved));
    }
    if has(F::prefilter_bit(F::first(pair))) {
        return None;
    }
    Some(Verdict::Pass(Reason::NotOurs))
}

/// Whether a frontend may stand at the address.
#[inline(always)]
pub fn may_be_frontend<F: Family>(addr: F::Addr) -> bool {
    has(frontend_bit(F::prefilter_bit(addr)))
}
