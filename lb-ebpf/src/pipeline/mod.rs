//! A packet's itinerary, one stage a file:
//!
//! ```text
//! parse → prefilter → flow ─────────────────────────────────────────────────────────────→ rewrite → forward
//!                       └ miss → frontend → sources → backend (affinity, choice) → new ──┘
//!                                             └ nobody there → reject
//! ```
//!
//! [`fast`] is the first line for plain packets with a fresh flow; [`full`] is that line for all others; [`begin`] is the second,
//! and [`reject`] the third. They are programs of their own, joined by tail calls, so that the hot one stays small for the verifier, its stack and the instruction cache.
//! Every stage is written once, over address family and hook.

mod backend;
mod fast;
mod flow;
mod forward;
mod frontend;
mod full;
mod host_socket;
mod new;
mod nexthop;
mod parse;
mod prefilter;
mod refresh;
mod reject;
mod rewrite;
pub mod scratch;
mod sources;
pub mod table;

pub use fast::fast;
pub use full::full;
pub use new::begin;
pub use parse::Packet;
pub use reject::reject;

use crate::family::Family;
use crate::hook::{Hook, Verdict};
use lb_common::reason::Reason;

/// A map key or value on the stack: the verifier wants it aligned for the double words LLVM writes it with.
#[repr(C, align(8))]
struct OnStack<T>(T);

/// Hands the packet to the stage that answers it. The reason is counted there, when the answer is given.
#[inline(always)]
fn reject_later<F: Family, H: Hook>(hook: &H) -> Verdict {
    hook.tail_call(F::REJECT);
    Verdict::Drop(Reason::StageMissing)
}
