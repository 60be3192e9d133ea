//! All of a known flow's walk: headers that are not plain, changes of state, refreshes.

use super::fast::unknown;
use super::flow::{Hit, Lookup, look_up};
use super::forward::forward;
use super::parse::{Packet, parse};
use super::refresh::{Refreshed, forget, owes_resolution, refresh};
use super::{prefilter, reject_later};
use crate::family::Family;
use crate::globals;
use crate::hook::{Hook, Verdict};
use crate::trace;
use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::flow::Forward;
use lb_common::lifetime::{of_tcp, opens, seen};
use lb_common::protocol::TCP;
use lb_common::reason::Reason;

/// The whole walk of a packet of family `F`.
#[inline(always)]
pub fn full<F: Family, H: Hook>(hook: &H) -> Verdict {
    trace::verdict(hook, walk::<F, H>(hook))
}

#[inline(always)]
fn walk<F: Family, H: Hook>(hook: &H) -> Verdict {
    let packet = match parse::<F, H>(hook) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Pass(reason),
    };
    trace::parsed(hook, &packet);
    if let Some(verdict) = prefilter::screen::<F, H>(hook, packet.pair()) {
        return verdict;
    }
    // SAFETY: plain helper call.
    let now = unsafe { bpf_jiffies64() } as u32;
    match look_up::<F>(packet.pair(), packet.ports(), packet.proto()) {
        Lookup::Hit(mut hit) => match known::<F, H>(hook, &packet, &mut hit, now) {
            Known::Decided(verdict) => verdict,
            Known::Over => begins::<F, H>(hook, &packet),
        },
        Lookup::Miss => begins::<F, H>(hook, &packet),
        Lookup::Busy => Verdict::Drop(Reason::Busy),
    }
}

#[inline(always)]
fn begins<F: Family, H: Hook>(hook: &H, packet: &Packet<F>) -> Verdict {
    unknown::<F, H>(hook, F::second(packet.pair()), packet.proto(), packet.tcp_flags())
}

enum Known {
    Decided(Verdict),
    /// The flow is over; the packet may begin another.
    Over,
}

/// A packet of a flow that stands in the table.
#[inline(always)]
fn known<F: Family, H: Hook>(hook: &H, packet: &Packet<F>, hit: &mut Hit<F>, now: u32) -> Known {
    let tcp = packet.proto() == TCP;
    trace::flow(hook, hit.backend, hit.kind, hit.idle(now));
    if hit.is_expired(now, packet.proto()) {
        return Known::Over;
    }
    let opening = tcp && opens(packet.tcp_flags()) && !hit.is_reply();
    if opening && (hit.own | hit.peer) & seen::CLOSING != 0 {
        return Known::Over;
    }
    if !hit.is_valid() {
        return if hit.is_reply() {
            Known::Decided(Verdict::Drop(Reason::StaleReply))
        } else if !tcp || opening {
            Known::Over
        } else {
            Known::Decided(reject_later::<F, H>(hook))
        };
    }

    let shown = hit.own
        | if tcp {
            of_tcp(packet.tcp_flags())
        } else {
            seen::OPEN
        };
    let due = hit.idle(now) >= globals::hz();
    let resolve = due && matches!(hit.forward(), Forward::Redirect) && owes_resolution(hit.last, now);
    if H::IS_XDP && resolve {
        // Nothing is stored: tc finds the flow in the same state and does what is due.
        return Known::Decided(Verdict::Pass(Reason::LeftToTc));
    }
    if shown != hit.own || due {
        if shown != hit.own {
            hit.set_own(shown);
        }
        match refresh::<F, H>(hook, packet, hit, now) {
            Refreshed::Good => {}
            Refreshed::Busy => return Known::Decided(Verdict::Drop(Reason::Busy)),
            Refreshed::Lost => {
                return if hit.is_reply() {
                    Known::Decided(Verdict::Drop(Reason::StaleReply))
                } else if !tcp || opening {
                    // Nothing but the lost half tells that the entry is over: it would be taken for a live flow's.
                    forget::<F>(packet, hit);
                    Known::Over
                } else {
                    Known::Decided(reject_later::<F, H>(hook))
                };
            }
        }
    }
    if hit.class() as u8 != hook.place().class() as u8 {
        return Known::Decided(Verdict::Pass(Reason::OtherHook));
    }
    Known::Decided(forward(
        hook,
        hit,
        packet.l4(),
        packet.proto(),
        packet.ttl(),
        resolve,
    ))
}
