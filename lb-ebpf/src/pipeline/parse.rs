//! Stage 1: where a packet's headers are, whatever stands between them.

use super::scratch::{Parsed, Scratch};
use crate::atomic::barrier;
use crate::family::{ETH, Family};
use crate::hook::Hook;
use crate::packet;
use lb_common::protocol::{TCP, UDP};
use lb_common::reason::Reason;

/// Extension headers that are followed.
const MAX_EXTENSIONS: usize = 6;
/// Bytes of network header, options and extension headers that are followed.
const MAX_NETWORK: usize = 256;
/// All offsets of transport headers are smaller: a power of two.
const MAX_OFFSET: usize = 512;

/// A packet that may be ours. What is known of it lies in the scratch and is read anew at each use: the verifier then knows no more
/// of it than its type, and need not walk the rest of the program once for every way the headers could be parsed.
pub struct Packet<F: Family> {
    scratch: *mut Scratch<F::Addr>,
}

impl<F: Family> Packet<F> {
    /// This CPU's work space.
    #[inline(always)]
    pub fn scratch(&self) -> *mut Scratch<F::Addr> {
        self.scratch
    }

    #[inline(always)]
    fn read<T>(&self, field: impl Fn(*const Parsed<F::Addr>) -> *const T) -> T {
        // SAFETY: this CPU's scratch; the field's bounds are its type's.
        unsafe { field(&raw const (*self.scratch).parsed).read_volatile() }
    }

    /// Both addresses.
    #[inline(always)]
    pub fn pair(&self) -> F::Pair {
        barrier();
        // SAFETY: this CPU's scratch, where the addresses stand side by side.
        unsafe { F::load((&raw const (*self.scratch).parsed).cast()) }
    }

    /// Both ports, as loaded.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        // SAFETY: a field's address.
        self.read(|p| unsafe { &raw const (*p).ports })
    }

    /// Offset of the transport header.
    #[inline(always)]
    pub fn l4(&self) -> usize {
        // SAFETY: a field's address.
        self.read(|p| unsafe { &raw const (*p).l4 }) as usize & (MAX_OFFSET - 1)
    }

    /// Bytes from the transport header to the end of the datagram.
    #[inline(always)]
    pub fn payload(&self) -> usize {
        // SAFETY: a field's address.
        self.read(|p| unsafe { &raw const (*p).payload }) as usize & 0xffff
    }

    /// TCP or UDP.
    #[inline(always)]
    pub fn proto(&self) -> u8 {
        // SAFETY: a field's address.
        self.read(|p| unsafe { &raw const (*p).proto })
    }

    /// TTL or hop limit.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        // SAFETY: a field's address.
        self.read(|p| unsafe { &raw const (*p).ttl })
    }

    /// Flags of the TCP header; zero for UDP.
    #[inline(always)]
    pub fn tcp_flags(&self) -> u8 {
        // SAFETY: a field's address.
        self.read(|p| unsafe { &raw const (*p).tcp_flags })
    }
}

/// Follows the headers of a packet whose Ethernet header names family `F`.
#[inline(always)]
pub fn parse<F: Family, H: Hook>(hook: &H) -> Result<Packet<F>, Reason> {
    if !hook.pull((hook.len() as usize).min(ETH + MAX_NETWORK + 60) as u32) {
        return Err(Reason::Malformed);
    }
    let (header, l4, proto, payload) = if F::HEADER == 20 {
        network4(hook)?
    } else {
        network6(hook)?
    };
    // SAFETY: both have checked the whole of their header.
    let (pair, ttl) = unsafe { (F::load(header.add(F::ADDRESSES)), header.add(F::TTL).read()) };

    let shortest = if proto == TCP { 20 } else { 8 };
    if proto != TCP && proto != UDP {
        return Err(Reason::OtherProtocol);
    }
    if payload < shortest {
        return Err(Reason::Malformed);
    }
    let Some(transport) = packet::at::<[u8; 8]>(hook, l4) else {
        return Err(Reason::Malformed);
    };
    // SAFETY: `at` checked the bounds.
    let ports = unsafe { transport.cast::<u32>().read_unaligned() };
    let mut tcp_flags = 0;
    if proto == TCP {
        let Some(transport) = packet::at::<[u8; 20]>(hook, l4) else {
            return Err(Reason::Malformed);
        };
        // SAFETY: `at` checked the bounds.
        let (offset, flags) = unsafe {
            (
                transport.cast::<u8>().add(12).read(),
                transport.cast::<u8>().add(13).read(),
            )
        };
        let header_len = ((offset >> 4) as usize) * 4;
        if header_len < 20 || header_len > payload {
            return Err(Reason::Malformed);
        }
        tcp_flags = flags;
    }
    let Some(scratch) = F::scratch() else {
        return Err(Reason::Busy);
    };
    // SAFETY: this CPU's scratch.
    unsafe {
        let parsed = &raw mut (*scratch).parsed;
        F::store(parsed.cast(), pair);
        (&raw mut (*parsed).ports).write_volatile(ports);
        (&raw mut (*parsed).l4).write_volatile(l4 as u32);
        (&raw mut (*parsed).payload).write_volatile(payload as u32);
        (&raw mut (*parsed).proto).write_volatile(proto);
        (&raw mut (*parsed).ttl).write_volatile(ttl);
        (&raw mut (*parsed).tcp_flags).write_volatile(tcp_flags);
    }
    barrier();
    Ok(Packet { scratch })
}

/// The network header, the transport header's offset and protocol, and the bytes from there to the end of the datagram.
type Network = Result<(*const u8, usize, u8, usize), Reason>;

/// The length that a header states. Of a packet that stands for more than 64 KiB of segments ("BIG TCP": sockets make them for the
/// loopback device) it states none: it is what is there behind `offset`.
#[inline(always)]
fn length<H: Hook>(hook: &H, stated: usize, offset: usize) -> usize {
    let len = hook.len() as usize;
    if stated == 0 && len > offset + u16::MAX as usize {
        len - offset
    } else {
        stated
    }
}

/// RFC 791, 3.1.
#[inline(always)]
fn network4<H: Hook>(hook: &H) -> Network {
    let Some(header) = packet::at::<[u8; 20]>(hook, ETH) else {
        return Err(Reason::Malformed);
    };
    let header: *const u8 = header.cast();
    // SAFETY: `at` checked the bounds.
    let (first, total, fragment, proto) = unsafe {
        (
            header.read(),
            u16::from_be(header.add(2).cast::<u16>().read_unaligned()) as usize,
            header.add(6).cast::<u16>().read_unaligned(),
            header.add(9).read(),
        )
    };
    let len = ((first & 0xf) as usize) * 4;
    let total = length::<H>(hook, total, ETH);
    if first >> 4 != 4 || len < 20 || total < len || ETH + total > hook.len() as usize {
        return Err(Reason::Malformed);
    }
    if fragment & 0x3fff_u16.to_be() != 0 {
        return Err(Reason::Fragment);
    }
    Ok((header, ETH + len, proto, total - len))
}

/// RFC 8200, 3 and 4.
#[inline(always)]
fn network6<H: Hook>(hook: &H) -> Network {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;

    let Some(header) = packet::at::<[u8; 40]>(hook, ETH) else {
        return Err(Reason::Malformed);
    };
    let header: *const u8 = header.cast();
    // SAFETY: `at` checked the bounds.
    let (first, payload, mut next) = unsafe {
        (
            header.read(),
            u16::from_be(header.add(4).cast::<u16>().read_unaligned()) as usize,
            header.add(6).read(),
        )
    };
    let payload = length::<H>(hook, payload, ETH + 40);
    if first >> 4 != 6 || ETH + 40 + payload > hook.len() as usize {
        return Err(Reason::Malformed);
    }
    let mut at = ETH + 40;
    for _ in 0..MAX_EXTENSIONS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION => {}
            FRAGMENT => return Err(Reason::Fragment),
            _ => {
                let used = at - ETH - 40;
                return if used > payload {
                    Err(Reason::Malformed)
                } else {
                    Ok((header, at, next, payload - used))
                };
            }
        }
        let Some(extension) = packet::at::<[u8; 8]>(hook, at) else {
            return Err(Reason::Malformed);
        };
        // SAFETY: `at` checked the bounds.
        let (following, len) = unsafe {
            (
                extension.cast::<u8>().read(),
                extension.cast::<u8>().add(1).read(),
            )
        };
        // A routing header with segments left is on its way to somebody else first (RFC 8200, 4.4).
        // SAFETY: as above.
        if next == ROUTING && unsafe { extension.cast::<u8>().add(3).read() } != 0 {
            return Err(Reason::ExtensionHeaders);
        }
        next = following;
        at += (len as usize + 1) * 8;
        if at > ETH + MAX_NETWORK {
            return Err(Reason::ExtensionHeaders);
        }
    }
    Err(Reason::ExtensionHeaders)
}
