//! Stage 8: rewritten, and on its way.

use super::flow::Hit;
use super::rewrite;
use crate::family::Family;
use crate::hook::{Hook, Verdict};
use crate::maps::BACKENDS;
use crate::stats;
use lb_common::flow::Forward;
use lb_common::reason::Reason;

/// Carries out a flow's instruction at the hook where it acts. `resolve` sends a packet with a known next hop through the
/// kernel's neighbour table all the same, which keeps the neighbour alive.
#[inline(always)]
pub fn forward<F: Family, H: Hook>(
    hook: &H,
    hit: &Hit<F>,
    l4: usize,
    proto: u8,
    ttl: u8,
    resolve: bool,
) -> Verdict {
    // Reasons to take the stack's own way: the packet is about to be received by that device, or to leave by it.
    let here = hit.ifindex == hook.ifindex();
    let how = match hit.forward() {
        Forward::Receive if here && hook.place().is_ingress() => Forward::Stack,
        how => how,
    };
    let sent = !matches!(how, Forward::Stack);
    // What the host itself sends has not come one hop yet.
    let hop = sent && hook.place().is_ingress() && !matches!(how, Forward::Receive);
    let len = hook.len();
    if H::IS_XDP && (!matches!(how, Forward::Redirect) || resolve) {
        return Verdict::Pass(Reason::LeftToTc);
    }
    if hop && ttl <= 1 {
        return Verdict::Pass(Reason::TtlExpired);
    }
    let verdict = match how {
        Forward::Stack => Verdict::Stack(Reason::ToStack),
        Forward::Receive => match hook.receive(hit.ifindex) {
            Some(verdict) => verdict,
            None => return Verdict::Pass(Reason::LeftToTc),
        },
        Forward::Redirect if !resolve && here && !hook.place().is_ingress() => Verdict::Stack(Reason::Sent),
        // Asked for before the packet is touched: XDP may find that the device takes no frames.
        Forward::Redirect if !resolve => match hook.redirect(hit.ifindex) {
            Some(verdict) => verdict,
            None => return Verdict::Pass(Reason::LeftToTc),
        },
        _ => match hook.redirect_neighbour(hit.ifindex) {
            Some(verdict) => verdict,
            None => return Verdict::Pass(Reason::LeftToTc),
        },
    };
    if sent && !rewrite::ethernet(hook, hit) {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if !rewrite::apply(hook, hit, l4, proto, hop) {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    if let Some(backend) = BACKENDS.get_ptr(hit.backend) {
        // SAFETY: a pointer into a map value, one word.
        stats::packet(unsafe { (&raw const (*backend).service).read_volatile() }, len);
    }
    verdict
}
