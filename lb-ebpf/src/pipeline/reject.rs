//! Stage 9: an answer built in the packet's own place, at once: RST for TCP, ICMP or ICMPv6 port unreachable for the others.

use super::parse::{Packet, parse};
use crate::family::{ETH, Family};
use crate::globals;
use crate::hook::{Hook, Verdict};
use crate::maps::REJECT_TOKENS;
use crate::packet;
use aya_ebpf::helpers::bpf_jiffies64;
use lb_common::addr::Address;
use lb_common::checksum::fold;
use lb_common::lifetime::{opens, tcp_flags};
use lb_common::protocol::TCP;
use lb_common::reason::Reason;

/// TTL and hop limit of an answer.
const TTL: u8 = 64;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;
/// Bytes of an ICMP error's header.
const ICMP_HEADER: usize = 8;
/// Most bytes of the packet that an ICMP error quotes: headers with options and the first of the payload. A multiple of four.
const QUOTE: usize = 128;
/// Type and code of "port unreachable" (RFC 792, RFC 4443), in the order of the header.
const UNREACHABLE4: u32 = 3 | 3 << 8;
const UNREACHABLE6: u32 = 1 | 4 << 8;

/// Answers the packet.
#[inline(always)]
pub fn reject<F: Family, H: Hook>(hook: &H) -> Verdict {
    let parsed = match parse::<F, H>(hook) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(reason),
    };
    if F::is_unanswerable(F::first(parsed.pair())) || parsed.tcp_flags() & tcp_flags::RST != 0 {
        return Verdict::Drop(Reason::RejectedSilently);
    }
    if !take_token() {
        return Verdict::Drop(Reason::RejectRate);
    }
    let Some(header) = packet::at::<[u8; ETH]>(hook, 0) else {
        return Verdict::Drop(Reason::RewriteFailed);
    };
    // SAFETY: `at` checked the bounds.
    let macs = unsafe {
        let header = header.cast::<u8>();
        (
            header.cast::<u32>().read_unaligned(),
            header.add(4).cast::<u32>().read_unaligned(),
            header.add(8).cast::<u32>().read_unaligned(),
        )
    };
    let built = if parsed.proto() == TCP {
        reset::<F, H>(hook, &parsed)
    } else {
        unreachable::<F, H>(hook, &parsed)
    };
    if built.is_none() || ethernet(hook, macs).is_none() {
        return Verdict::Drop(Reason::RewriteFailed);
    }
    // Only a flow can want a segment in the middle of a connection answered; a frontend leaves those alone (S44).
    let begins = parsed.proto() != TCP || opens(parsed.tcp_flags());
    hook.reflect(if begins {
        Reason::Rejected
    } else {
        Reason::EndpointGone
    })
}

/// A token bucket a CPU: a second's worth deep.
#[inline(always)]
fn take_token() -> bool {
    let Some(bucket) = REJECT_TOKENS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_jiffies64() } as u32;
    let rate = globals::rejects_per_second();
    // SAFETY: this CPU's own bucket.
    let [tokens, filled] = unsafe { &mut *bucket };
    let elapsed = now.wrapping_sub(*filled);
    // A bucket that was never filled is due, whatever the clock says.
    if elapsed >= globals::hz() || *filled == 0 {
        *tokens = rate;
        *filled = now;
    }
    if *tokens == 0 {
        return false;
    }
    *tokens -= 1;
    true
}

/// Ethernet addresses the other way round.
#[inline(always)]
fn ethernet<H: Hook>(hook: &H, (dst, mixed, src): (u32, u32, u32)) -> Option<()> {
    let header: *mut u8 = packet::at::<[u8; 12]>(hook, 0)?.cast();
    // SAFETY: `at` checked the bounds.
    unsafe {
        header.cast::<u32>().write_unaligned(mixed >> 16 | src << 16);
        header.add(4).cast::<u32>().write_unaligned(src >> 16 | dst << 16);
        header
            .add(8)
            .cast::<u32>()
            .write_unaligned(dst >> 16 | mixed << 16);
    }
    Some(())
}

/// A network header at `ETH`, from the packet's destination to its source.
#[inline(always)]
fn network<F: Family, H: Hook>(hook: &H, pair: F::Pair, proto: u8, payload: usize) -> Option<()> {
    let header: *mut u8 = if F::HEADER == 20 {
        packet::at::<[u8; 20]>(hook, ETH)?.cast()
    } else {
        packet::at::<[u8; 40]>(hook, ETH)?.cast()
    };
    let words = header.cast::<u32>();
    // SAFETY: `at` checked the bounds of this family's header.
    unsafe {
        if F::HEADER == 20 {
            let first = (0x4500_0000 | (F::HEADER + payload) as u32).to_be();
            let second = 0x0000_4000_u32.to_be();
            let third = ((TTL as u32) << 24 | (proto as u32) << 16).to_be();
            let sum = F::second(pair).sum(F::first(pair).sum(first as u64 + second as u64 + third as u64));
            words.write_unaligned(first);
            words.add(1).write_unaligned(second);
            words.add(2).write_unaligned(third | (!fold(sum) as u32) << 16);
        } else {
            words.write_unaligned(0x6000_0000_u32.to_be());
            words
                .add(1)
                .write_unaligned(((payload as u32) << 16 | (proto as u32) << 8 | TTL as u32).to_be());
        }
        F::store(header.add(F::ADDRESSES), F::pair(F::second(pair), F::first(pair)));
    }
    Some(())
}

/// What the pseudo header adds to a transport checksum (RFC 9293, 3.1; RFC 8200, 8.1).
#[inline(always)]
fn pseudo<F: Family>(pair: F::Pair, proto: u8, len: usize) -> u64 {
    F::second(pair).sum(F::first(pair).sum((proto as u16).to_be() as u64 + (len as u16).to_be() as u64))
}

/// RFC 9293, 3.10.7.1: what a closed port answers.
#[inline(always)]
fn reset<F: Family, H: Hook>(hook: &H, parsed: &Packet<F>) -> Option<()> {
    let segment: *const u8 = packet::at::<[u8; 20]>(hook, parsed.l4())?.cast();
    // SAFETY: `at` checked the bounds.
    let (seq, ack, offset) = unsafe {
        (
            u32::from_be(segment.add(4).cast::<u32>().read_unaligned()),
            segment.add(8).cast::<u32>().read_unaligned(),
            segment.add(12).read(),
        )
    };
    let flags = parsed.tcp_flags();
    let mut len = (parsed.payload() as u32).wrapping_sub((offset >> 4) as u32 * 4);
    if flags & tcp_flags::SYN != 0 {
        len = len.wrapping_add(1);
    }
    if flags & tcp_flags::FIN != 0 {
        len = len.wrapping_add(1);
    }
    let (seq, ack, flags) = if flags & tcp_flags::ACK != 0 {
        (ack, 0, tcp_flags::RST)
    } else {
        (0, seq.wrapping_add(len).to_be(), tcp_flags::RST | tcp_flags::ACK)
    };

    if !hook.set_len((ETH + F::HEADER + TCP_HEADER) as u32) {
        return None;
    }
    network::<F, H>(hook, parsed.pair(), TCP, TCP_HEADER)?;
    let words: *mut u32 = packet::at::<[u8; TCP_HEADER]>(hook, ETH + F::HEADER)?.cast();
    let ports = super::flow::swap_ports(parsed.ports());
    let offset_and_flags = ((5_u32 << 28) | (flags as u32) << 16).to_be();
    let sum = pseudo::<F>(parsed.pair(), TCP, TCP_HEADER)
        + ports as u64
        + seq as u64
        + ack as u64
        + offset_and_flags as u64;
    // SAFETY: `at` checked the bounds.
    unsafe {
        words.write_unaligned(ports);
        words.add(1).write_unaligned(seq);
        words.add(2).write_unaligned(ack);
        words.add(3).write_unaligned(offset_and_flags);
        words.add(4).write_unaligned(!fold(sum) as u32);
    }
    Some(())
}

/// RFC 792 and RFC 4443, 3.1: port unreachable, quoting the packet.
#[inline(always)]
fn unreachable<F: Family, H: Hook>(hook: &H, parsed: &Packet<F>) -> Option<()> {
    let datagram = parsed.l4() - ETH + parsed.payload();
    let quote = if datagram > QUOTE { QUOTE } else { datagram & !3 };
    if !hook.set_len((ETH + quote) as u32) || !hook.make_room((F::HEADER + ICMP_HEADER) as i32) {
        return None;
    }
    let len = ICMP_HEADER + quote;
    network::<F, H>(hook, parsed.pair(), F::ICMP, len)?;
    let first = if F::HEADER == 20 {
        UNREACHABLE4
    } else {
        UNREACHABLE6
    };
    let mut sum = first as u64;
    if F::HEADER != 20 {
        sum += pseudo::<F>(parsed.pair(), F::ICMP, len);
    }
    let quoted = ETH + F::HEADER + ICMP_HEADER;
    let mut at = 0;
    while at < QUOTE {
        if at < quote {
            let word = packet::at::<u32>(hook, quoted + at)?;
            // SAFETY: `at` checked the bounds.
            sum += unsafe { word.read_unaligned() } as u64;
        }
        at += 4;
    }
    let words: *mut u32 = packet::at::<[u8; ICMP_HEADER]>(hook, ETH + F::HEADER)?.cast();
    // SAFETY: `at` checked the bounds.
    unsafe {
        words.write_unaligned(first | (!fold(sum) as u32) << 16);
        words.add(1).write_unaligned(0);
    }
    Some(())
}
