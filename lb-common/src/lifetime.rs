//! How long a flow lives without a packet, and what has been seen of it.
//!
//! Each direction's entry holds what its own packets showed (`own`, one writer: that direction) and what the other half had
//! shown when last looked at (`peer`). Defaults are those of the kernel's conntrack
//! (net/netfilter/nf_conntrack_proto_{tcp,udp}.c).

use bytemuck::{Pod, Zeroable};

/// Bits of [`crate::flow::FlowEntry::own`] and `peer`.
pub mod seen {
    /// TCP: a SYN. UDP: any packet.
    pub const OPEN: u8 = 1;
    /// TCP: an ACK without SYN.
    pub const ACK: u8 = 2;
    /// TCP: a FIN.
    pub const FIN: u8 = 4;
    /// TCP: a RST.
    pub const RST: u8 = 8;
    /// FIN or RST: a SYN on this tuple opens a new connection (S38).
    pub const CLOSING: u8 = FIN | RST;
}

/// TCP header flags (RFC 9293, 3.1), byte 13.
pub mod tcp_flags {
    /// FIN
    pub const FIN: u8 = 0x01;
    /// SYN
    pub const SYN: u8 = 0x02;
    /// RST
    pub const RST: u8 = 0x04;
    /// ACK
    pub const ACK: u8 = 0x10;
}

/// What a TCP segment with these header flags shows of its sender.
#[inline(always)]
#[must_use]
pub const fn of_tcp(flags: u8) -> u8 {
    let mut bits = 0;
    if flags & tcp_flags::SYN != 0 {
        bits |= seen::OPEN;
    } else if flags & tcp_flags::ACK != 0 {
        bits |= seen::ACK;
    }
    if flags & tcp_flags::FIN != 0 {
        bits |= seen::FIN;
    }
    if flags & tcp_flags::RST != 0 {
        bits |= seen::RST;
    }
    bits
}

/// Whether a segment asks for a new connection: SYN without ACK, RST or FIN.
#[inline(always)]
#[must_use]
pub const fn opens(flags: u8) -> bool {
    flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST | tcp_flags::FIN) == tcp_flags::SYN
}

/// Idle times, in jiffies where the kernel programs use them and in seconds in the settings.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Timeouts {
    /// TCP before both sides have spoken.
    pub tcp_open: u32,
    /// TCP once established.
    pub tcp_established: u32,
    /// TCP after a FIN.
    pub tcp_closing: u32,
    /// TCP after a RST.
    pub tcp_reset: u32,
    /// UDP (and SCTP) without a reply.
    pub udp: u32,
    /// UDP (and SCTP) with one.
    pub udp_stream: u32,
}

impl Timeouts {
    /// Conntrack's defaults, in seconds.
    pub const SECONDS: Self = Self {
        tcp_open: 60,
        tcp_established: 432_000,
        tcp_closing: 120,
        tcp_reset: 10,
        udp: 30,
        udp_stream: 120,
    };

    /// The same in ticks of `hz` a second.
    #[must_use]
    pub const fn in_jiffies(&self, hz: u32) -> Self {
        Self {
            tcp_open: self.tcp_open.saturating_mul(hz),
            tcp_established: self.tcp_established.saturating_mul(hz),
            tcp_closing: self.tcp_closing.saturating_mul(hz),
            tcp_reset: self.tcp_reset.saturating_mul(hz),
            udp: self.udp.saturating_mul(hz),
            udp_stream: self.udp_stream.saturating_mul(hz),
        }
    }

    /// How long an entry of this protocol lives idle, given what both halves have shown.
    #[inline(always)]
    #[must_use]
    pub const fn of(&self, proto: u8, own: u8, peer: u8) -> u32 {
        let both = own | peer;
        if proto != crate::protocol::TCP {
            if own & peer & seen::OPEN != 0 {
                self.udp_stream
            } else {
                self.udp
            }
        } else if both & seen::RST != 0 {
            self.tcp_reset
        } else if both & seen::FIN != 0 {
            self.tcp_closing
        } else if own & peer & seen::OPEN != 0 && both & seen::ACK != 0 {
            self.tcp_established
        } else {
            self.tcp_open
        }
    }
}

/// How far a stamp may be ahead of the clock of who reads it: another CPU stores it a few ticks later than this one read its
/// clock at most, however long the packet in between took.
const AHEAD: u32 = 1 << 16;

/// Ticks since `last`: jiffies wrap, so only their difference counts. A stamp that another CPU has just stored may be ahead of
/// `now`; it is no age of years.
#[inline(always)]
#[must_use]
pub const fn age(now: u32, last: u32) -> u32 {
    let age = now.wrapping_sub(last);
    if age > u32::MAX - AHEAD { 0 } else { age }
}

/// Whether an entry last seen at `last` has outlived `timeout` at `now`.
#[inline(always)]
#[must_use]
pub const fn expired(now: u32, last: u32, timeout: u32) -> bool {
    age(now, last) > timeout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{TCP, UDP};

    #[test]
    fn a_connection_lives_by_what_both_halves_have_shown() {
        let t = Timeouts::SECONDS;
        let cases = [
            (TCP, seen::OPEN, 0, t.tcp_open),
            (TCP, seen::OPEN, seen::OPEN, t.tcp_open),
            (TCP, seen::OPEN | seen::ACK, seen::OPEN, t.tcp_established),
            (TCP, seen::OPEN, seen::OPEN | seen::ACK, t.tcp_established),
            (TCP, seen::OPEN | seen::ACK, seen::OPEN | seen::FIN, t.tcp_closing),
            (
                TCP,
                seen::OPEN | seen::ACK | seen::FIN,
                seen::OPEN | seen::RST,
                t.tcp_reset,
            ),
            (UDP, seen::OPEN, 0, t.udp),
            (UDP, seen::OPEN, seen::OPEN, t.udp_stream),
        ];
        for (proto, own, peer, expected) in cases {
            assert_eq!(
                t.of(proto, own, peer),
                expected,
                "protocol {proto} own {own:#b} peer {peer:#b}"
            );
        }
    }

    #[test]
    fn jiffies_may_wrap() {
        assert!(!expired(5, u32::MAX - 5, 100));
        assert!(expired(200, u32::MAX - 5, 100));
        assert!(
            !expired(u32::MAX, 3, 100),
            "a stamp from another CPU a tick ahead is not an age of years"
        );
        assert_eq!(age(5, u32::MAX - 5), 11);
        assert_eq!(age(u32::MAX, 3), 0);
        assert!(
            expired(0, 1 << 31, 100),
            "24 days of a thousand ticks a second are an age"
        );
    }

    #[test]
    fn only_a_bare_syn_opens() {
        assert!(opens(tcp_flags::SYN));
        assert!(opens(tcp_flags::SYN | 0xc0), "ECN bits do not matter");
        for other in [
            tcp_flags::ACK,
            tcp_flags::SYN | tcp_flags::ACK,
            tcp_flags::SYN | tcp_flags::RST,
            tcp_flags::SYN | tcp_flags::FIN,
            0,
        ] {
            assert!(!opens(other));
        }
    }
}
