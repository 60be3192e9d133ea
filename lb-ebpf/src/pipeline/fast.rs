//! The hot program: the fresh hit of a plain packet. Everything else is another stage's.

use super::flow::{Lookup, look_up};
use super::forward::forward;
use super::prefilter;
use crate::family::{ETH, Family, V4, V6};
use crate::globals;
use crate::hook::{Hook, Place, Verdict};
use crate::packet;
use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::flow::Forward;
use lb_common::lifetime::{opens, seen, tcp_flags};
use lb_common::protocol::{TCP, UDP};
use lb_common::reason::Reason;

/// EtherTypes of VLAN tags (IEEE 802.1Q, 802.1ad).
const VLAN: u16 = 0x8100_u16.to_be();
const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();

/// Tells the family.
#[inline(always)]
pub fn fast<H: Hook>(hook: &H) -> Verdict {
    let Some(header) = packet::at::<[u8; ETH]>(hook, 0) else {
        return Verdict::Pass(Reason::Malformed);
    };
    // SAFETY: `at` checked the bounds.
    let (first, ethertype) = unsafe {
        (
            header.cast::<u64>().read_unaligned(),
            header.cast::<u8>().add(12).cast::<u16>().read_unaligned(),
        )
    };
    if !hook.is_for_us(first) {
        return Verdict::Pass(Reason::NotForUs);
    }
    if hook.is_tagged() {
        return Verdict::Pass(Reason::Vlan);
    }
    match ethertype {
        V4::ETHERTYPE => plain::<V4, H>(hook),
        V6::ETHERTYPE => plain::<V6, H>(hook),
        VLAN | SERVICE_VLAN => Verdict::Pass(Reason::Vlan),
        _ => Verdict::Pass(Reason::NotForUs),
    }
}

/// The stage that can do everything.
#[inline(always)]
fn full<F: Family, H: Hook>(hook: &H) -> Verdict {
    hook.tail_call(F::FULL);
    Verdict::Pass(Reason::StageMissing)
}

#[inline(always)]
fn plain<F: Family, H: Hook>(hook: &H) -> Verdict {
    // Enough for addresses and ports; a shorter linear part is the full stage's to pull together.
    let Some(header) = packet::at::<u8>(hook, ETH + F::HEADER + 7) else {
        return full::<F, H>(hook);
    };
    let header: *const u8 = header.wrapping_sub(F::HEADER + 7).cast_const();
    // SAFETY: the check above covers the network header and eight bytes behind it.
    let (proto, pair, ttl, ports) = unsafe {
        let Some(proto) = F::plain(header) else {
            return full::<F, H>(hook);
        };
        (
            proto,
            F::load(header.add(F::ADDRESSES)),
            header.add(F::TTL).read(),
            header.add(F::HEADER).cast::<u32>().read_unaligned(),
        )
    };
    if let Some(verdict) = prefilter::screen::<F, H>(hook, pair) {
        return verdict;
    }
    let (shown, flags) = match proto {
        TCP => {
            let Some(last) = packet::at::<u8>(hook, ETH + F::HEADER + 19) else {
                return full::<F, H>(hook);
            };
            // SAFETY: `at` checked the bounds; flags stand six bytes before.
            (seen::ACK, unsafe { last.wrapping_sub(6).read() })
        }
        UDP => (seen::OPEN, 0),
        _ => return full::<F, H>(hook),
    };
    let hit = match look_up::<F>(pair, ports, proto) {
        Lookup::Hit(hit) => hit,
        Lookup::Miss => return unknown::<F, H>(hook, F::second(pair), proto, flags),
        Lookup::Busy => return Verdict::Drop(Reason::Busy),
    };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_jiffies64() } as u32;
    if flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) != 0
        || !hit.is_fresh(now, globals::fresh_for())
        || hit.own & shown == 0
        || !hit.is_valid()
    {
        return full::<F, H>(hook);
    }
    if hit.class() as u8 != hook.place().class() as u8 {
        return Verdict::Pass(Reason::OtherHook);
    }
    if H::IS_XDP && !matches!(hit.forward(), Forward::Redirect) {
        return Verdict::Pass(Reason::LeftToTc);
    }
    forward(hook, &hit, ETH + F::HEADER, proto, ttl, false)
}

/// A packet of no flow: to the stage that begins flows, if it may begin one or its destination must be looked at.
#[inline(always)]
pub fn unknown<F: Family, H: Hook>(hook: &H, dst: F::Addr, proto: u8, tcp_flags: u8) -> Verdict {
    let mid_flow = is_mid_flow(proto, tcp_flags);
    match hook.place() {
        // A connection that began before us, or elsewhere: the kernel's conntrack finishes what it began (S44).
        Place::UplinkIngress | Place::PodIngress if mid_flow => return Verdict::Pass(Reason::MidFlow),
        Place::UplinkIngress | Place::PodIngress => {}
        Place::UplinkEgress if prefilter::may_be_frontend::<F>(dst) || F::is_service_address(dst) => {}
        Place::LoopbackEgress if !mid_flow && prefilter::may_be_frontend::<F>(dst) => {}
        Place::UplinkEgress | Place::LoopbackEgress | Place::PodEgress => {
            return Verdict::Pass(Reason::NotOurs);
        }
    }
    hook.tail_call(F::NEW);
    Verdict::Pass(Reason::StageMissing)
}

/// Whether it is a segment in the middle of a connection, with which none begins.
#[inline(always)]
pub fn is_mid_flow(proto: u8, tcp_flags: u8) -> bool {
    proto == TCP && !opens(tcp_flags)
}
