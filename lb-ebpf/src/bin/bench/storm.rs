//! The storm: packets of more flows than the table has places, from as many CPUs as run it, each checked after the program.
//!
//! BPF_PROG_TEST_RUN hands the same memory to every repetition: what the program under test made of a packet is what the
//! next run finds. So each run first judges the frame it gets, by the number it wrote into the TCP sequence field, and
//! then writes the next packet over it. A program may have left a packet as it was or rewritten it as that flow demands;
//! anything else is wrong: an instruction of another flow, or a mixture of two.

use crate::storm_params::{Counts, LOCAL_SERVICES, REPLY, SENT, SERVICES, Storm, Wrong};
use crate::{Family, Frame, V4, V6, first};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

#[btf_map(name = "storm")]
static STORM: Array<Storm, 1> = Array::new();

#[btf_map(name = "storm_counts")]
static COUNTS: PerCpuArray<Counts, 1> = PerCpuArray::new();

/// The last wrong packet of a CPU, for people.
#[btf_map(name = "storm_wrong")]
static WRONG: PerCpuArray<Wrong, 1> = PerCpuArray::new();

/// In a TCP header.
const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;
/// Length of the segment: a header and ten bytes.
const SEGMENT: usize = 30;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Eight segments: openings, ordinary ones, and two ends, which a storm may go without.
const REQUEST_FLAGS: u64 = u64::from_le_bytes([SYN, SYN, SYN, ACK, ACK, ACK, ACK | 0x01, 0x04]);
const REPLY_FLAGS: u64 =
    u64::from_le_bytes([SYN | ACK, SYN | ACK, ACK, ACK, ACK, ACK, ACK | 0x01, ACK | 0x04]);

/// A frame of this size is looked at.
const FRAME4: usize = crate::L3 + 20 + SEGMENT;
const FRAME6: usize = crate::L3 + 40 + SEGMENT;

/// Addresses and ports as they stand in a header.
#[derive(Clone, Copy)]
struct Tuple<const WORDS: usize> {
    src: [u32; WORDS],
    dst: [u32; WORDS],
    ports: u32,
}

impl<const WORDS: usize> Tuple<WORDS> {
    #[inline(always)]
    fn of<F: Family<WORDS, KEY>, const KEY: usize, const N: usize>(frame: Frame<N>) -> Self {
        Self {
            src: frame.load(F::ADDRESSES),
            dst: frame.load(F::ADDRESSES + 4 * WORDS),
            ports: frame.load(F::L4),
        }
    }

    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        same(&self.src, &other.src) && same(&self.dst, &other.dst) && self.ports == other.ports
    }

    #[inline(always)]
    fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            ports: self.ports.rotate_left(16),
        }
    }
}

/// Everything that is known of flow `number`.
struct Flow<const WORDS: usize> {
    client: [u32; WORDS],
    vip: [u32; WORDS],
    backend: [u32; WORDS],
    client_port: u16,
    vip_port: u16,
    backend_port: u16,
    local: bool,
}

impl<const WORDS: usize> Flow<WORDS> {
    #[inline(always)]
    fn new(storm: &Storm, number: u32) -> Self {
        let service = number >> 3 & (SERVICES - 1);
        let local = service < LOCAL_SERVICES;
        let mut client: [u32; WORDS] = first(&storm.client);
        // The last byte of the address is the highest of its last word.
        client[WORDS - 1] += (number & 7) << 24;
        Self {
            client,
            vip: first(&storm.vip),
            backend: first(if local { &storm.pod } else { &storm.remote }),
            client_port: (storm.client_port + number as u16).to_be(),
            vip_port: (storm.vip_port + service as u16).to_be(),
            backend_port: (storm.backend_port + service as u16).to_be(),
            local,
        }
    }

    #[inline(always)]
    fn request(&self) -> Tuple<WORDS> {
        Tuple {
            src: self.client,
            dst: self.vip,
            ports: self.client_port as u32 | (self.vip_port as u32) << 16,
        }
    }

    /// What the request becomes on its way to the backend, sent from `(node, port)` if that is elsewhere.
    #[inline(always)]
    fn rewritten(&self, node: [u32; WORDS], port: u16) -> Tuple<WORDS> {
        let port = if self.local { self.client_port } else { port };
        Tuple {
            src: if self.local { self.client } else { node },
            dst: self.backend,
            ports: port as u32 | (self.backend_port as u32) << 16,
        }
    }
}

enum Seen {
    Untouched,
    Rewritten,
    Wrong,
}

#[inline(always)]
fn same<const WORDS: usize>(a: &[u32; WORDS], b: &[u32; WORDS]) -> bool {
    let mut different = 0;
    let mut i = 0;
    while i < WORDS {
        different |= a[i] ^ b[i];
        i += 1;
    }
    different == 0
}

/// One's complement sum of the words from one offset to another, and of what starts there.
#[inline(always)]
fn sum<const N: usize>(frame: Frame<N>, start: u64, from: usize, to: usize) -> u16 {
    let mut sum = start;
    let mut at = from;
    while at + 4 <= to {
        sum += frame.load::<u32>(at) as u64;
        at += 4;
    }
    if at < to {
        sum += frame.load::<u16>(at) as u64;
    }
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32 & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The segment's sum with its pseudo-header, whose addresses stand right before it in both families.
#[inline(always)]
fn segment_sum<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    frame: Frame<N>,
) -> u16 {
    let rest = 6_u16.to_be() as u64 + (SEGMENT as u16).to_be() as u64;
    sum(frame, rest, F::ADDRESSES, F::L4 + SEGMENT)
}

/// The IPv4 header's sum; right for a family without one.
#[inline(always)]
fn header_sum<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    frame: Frame<N>,
) -> u16 {
    match F::CHECKSUM {
        Some(_) => sum(frame, 0, crate::L3, F::L4),
        None => 0xffff,
    }
}

/// Judges the frame that the program under test has left.
#[inline(always)]
fn judge<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize, const XDP: bool>(
    storm: &Storm,
    frame: Frame<N>,
    mark: u32,
) -> Seen {
    if segment_sum::<F, WORDS, KEY, N>(frame) != 0xffff || header_sum::<F, WORDS, KEY, N>(frame) != 0xffff {
        return Seen::Wrong;
    }
    let flow = Flow::<WORDS>::new(storm, mark & storm.mask);
    let got = Tuple::of::<F, KEY, N>(frame);
    let is_reply = mark & REPLY != 0;
    // The port a source was rewritten to: chosen by the program, and carried along in a reply.
    let port = if is_reply {
        frame.load::<u32>(F::L4 + ACKNOWLEDGEMENT) as u16
    } else {
        got.ports as u16
    };
    let (request, onward) = (flow.request(), flow.rewritten(first(&storm.node), port));
    let (sent, made) = if is_reply {
        // Its flow may have given way meanwhile, and the tuple belong to another client of the service.
        let client = u16::from_be((got.ports >> 16) as u16).wrapping_sub(storm.client_port) as u32;
        let now = Flow::<WORDS>::new(storm, client & storm.mask);
        let of_service = now.backend_port == flow.backend_port;
        let made = if of_service { now.request() } else { request };
        (onward.reversed(), made.reversed())
    } else {
        (request, onward)
    };
    let macs: [u32; 3] = frame.load(0);
    let ttl: u16 = frame.load(F::TTL_WORD);
    if got.is(&sent) && same(&macs, &storm.macs) && ttl == storm.ttl_word {
        return Seen::Untouched;
    }
    let (own_port, hop) = if flow.local {
        // Handed up by tc alone, and answered where packets leave: never rewritten at ingress.
        (!XDP && !is_reply, false)
    } else {
        (
            u16::from_be(port).wrapping_sub(storm.snat_first) < storm.snat_count,
            true,
        )
    };
    let arrives = if hop {
        let to = if is_reply {
            &storm.reply_macs
        } else {
            &storm.request_macs
        };
        // The kernel writes them where it resolves the neighbour.
        (same(&macs, to) || same(&macs, &[0; 3])) && ttl == storm.ttl_word - F::ONE_HOP
    } else {
        same(&macs, &storm.macs) && ttl == storm.ttl_word
    };
    if got.is(&made) && own_port && arrives {
        Seen::Rewritten
    } else {
        Seen::Wrong
    }
}

/// Judges the packet before and writes the next.
#[inline(always)]
fn storm<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize, const XDP: bool>(
    frame: Frame<N>,
) -> Option<()> {
    let storm = STORM.get(0)?;
    let counts = COUNTS.get_ptr_mut(0)?;
    // SAFETY: this CPU's own counters.
    let counts = unsafe { &mut *counts };
    // SAFETY: plain helper call.
    let random = unsafe { bpf_get_prandom_u32() };

    let mark: u32 = frame.load(F::L4 + SEQUENCE);
    let mut reply_to = None;
    if mark & SENT != 0 {
        let is_reply = mark & REPLY != 0;
        match judge::<F, WORDS, KEY, N, XDP>(storm, frame, mark) {
            Seen::Untouched => counts.untouched += 1,
            Seen::Rewritten if is_reply => counts.replies += 1,
            Seen::Rewritten => {
                counts.requests += 1;
                // Every other one is answered.
                if random & 1 << 31 != 0 {
                    reply_to = Some(Tuple::of::<F, KEY, N>(frame));
                }
            }
            Seen::Wrong => {
                counts.wrong += 1;
                let wrong = WRONG.get_ptr_mut(0)?;
                // SAFETY: this CPU's own.
                let wrong = unsafe { &mut *wrong };
                wrong.mark = mark;
                let mut i = 0;
                while i < N / 4 {
                    wrong.frame[i] = frame.load(4 * i);
                    i += 1;
                }
            }
        }
    }

    let (tuple, flags, mark, port) = match reply_to {
        Some(made) => {
            let port = made.ports & 0xffff;
            (made.reversed(), REPLY_FLAGS, mark | REPLY, port)
        }
        None => {
            let number = random & storm.mask;
            (
                Flow::new(storm, number).request(),
                REQUEST_FLAGS,
                SENT | number,
                0,
            )
        }
    };
    frame.store_macs(storm.macs);
    frame.store(F::TTL_WORD, storm.ttl_word);
    frame.store_addresses(F::ADDRESSES, tuple.src, tuple.dst);
    frame.store(F::L4, tuple.ports);
    frame.store(F::L4 + SEQUENCE, mark);
    frame.store(F::L4 + ACKNOWLEDGEMENT, port);
    let mut segment = random >> 24 & 7;
    if storm.ends == 0 && segment > 5 {
        segment -= 4;
    }
    frame.store(F::L4 + FLAGS, (flags >> (8 * segment)) as u8);
    frame.store(F::L4 + CHECKSUM, 0_u16);
    frame.store(F::L4 + CHECKSUM, !segment_sum::<F, WORDS, KEY, N>(frame));
    if let Some(at) = F::CHECKSUM {
        frame.store(at, 0_u16);
        frame.store(at, !header_sum::<F, WORDS, KEY, N>(frame));
    }
    counts.sent += 1;
    Some(())
}

#[inline(always)]
fn xdp_storm<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    context: &XdpContext,
) -> u32 {
    let made = Frame::<N>::new(context.data(), context.data_end()).and_then(storm::<F, WORDS, KEY, N, true>);
    if made.is_some() {
        // SAFETY: nothing is held across the call, which returns only when no program is under test.
        unsafe { crate::XDP_TARGET.tail_call(context, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn tc_storm<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    context: &TcContext,
) -> i32 {
    let made = Frame::<N>::new(context.data(), context.data_end()).and_then(storm::<F, WORDS, KEY, N, false>);
    if made.is_some() {
        // SAFETY: nothing is held across the call, which returns only when no program is under test.
        unsafe { crate::TC_TARGET.tail_call(context, 0) };
    }
    crate::TC_SHOT
}

#[xdp]
fn xdp_storm4(context: XdpContext) -> u32 {
    xdp_storm::<V4, 1, 4, FRAME4>(&context)
}

#[xdp]
fn xdp_storm6(context: XdpContext) -> u32 {
    xdp_storm::<V6, 4, 10, FRAME6>(&context)
}

#[classifier]
fn tc_storm4(context: TcContext) -> i32 {
    tc_storm::<V4, 1, 4, FRAME4>(&context)
}

#[classifier]
fn tc_storm6(context: TcContext) -> i32 {
    tc_storm::<V6, 4, 10, FRAME6>(&context)
}
