//! The benchmark's own kernel programs, an object apart from the product's: generators that write the headers of the next flow
//! and tail-call the program under test, empty programs, and the floor: the least a balancer on the kernel's own
//! LRU hash can do (one look-up, full rewrite, transmit; two inserts for a new flow). And the storm (see [`storm`]), a
//! generator that tests of the flow table use.
//!
//! BPF_PROG_TEST_RUN hands the same memory to every repetition: without a generator a rewriting program would
//! meet its own output from the second one on. The generators store with the widths the programs load with: a load
//! that spans two young stores waits for both, which no frame from a NIC does.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "packet fields are taken apart by width throughout"
)]

mod params;
mod storm;
mod storm_params;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, xdp_action};
use aya_ebpf::btf_maps::{Array, LruHashMap, ProgramArray};
use aya_ebpf::helpers::{bpf_l4_csum_replace, bpf_redirect};
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::checksum;
use params::Params;

#[btf_map(name = "params")]
static PARAMS: Array<Params, 1> = Array::new();

/// Number of the next packet.
#[btf_map(name = "counter")]
static COUNTER: Array<u64, 1> = Array::new();

/// The XDP program under test.
#[btf_map(name = "xdp_target")]
static XDP_TARGET: ProgramArray<1> = ProgramArray::new();

/// The tc program under test.
#[btf_map(name = "tc_target")]
static TC_TARGET: ProgramArray<1> = ProgramArray::new();

#[btf_map(name = "floor4")]
static FLOOR4: LruHashMap<[u32; 4], Instruction<1>, 65_536> = LruHashMap::new();

#[btf_map(name = "floor6")]
static FLOOR6: LruHashMap<[u32; 10], Instruction<4>, 65_536> = LruHashMap::new();

/// What the floor keeps of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Instruction<const WORDS: usize> {
    src: [u32; WORDS],
    dst: [u32; WORDS],
    ports: u32,
    macs: [u32; 3],
    delta_addr: u32,
    delta_port: u32,
}

/// TC_ACT_UNSPEC.
const TC_UNSPEC: i32 = -1;
/// TC_ACT_SHOT.
const TC_SHOT: i32 = 2;
/// Where the network header begins.
const L3: usize = 14;
/// In a TCP header: the flags, the checksum.
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const SYN: u8 = 2;

/// Where a family's header keeps what a NAT changes. `WORDS` is an address in words of 32 bits, `KEY` a tuple.
trait Family<const WORDS: usize, const KEY: usize> {
    const ADDRESSES: usize;
    /// The half-word with TTL or hop limit in it, and what to subtract for one hop.
    const TTL_WORD: usize;
    const ONE_HOP: u16;
    const CHECKSUM: Option<usize>;
    const L4: usize;
    fn table_get(key: &[u32; KEY]) -> Option<*const Instruction<WORDS>>;
    fn table_insert(key: &[u32; KEY], value: &Instruction<WORDS>);
    fn key(src: [u32; WORDS], dst: [u32; WORDS], ports: u32) -> [u32; KEY];
}

struct V4;
struct V6;

impl Family<1, 4> for V4 {
    const ADDRESSES: usize = L3 + 12;
    const TTL_WORD: usize = L3 + 8;
    const ONE_HOP: u16 = 1;
    const CHECKSUM: Option<usize> = Some(L3 + 10);
    const L4: usize = L3 + 20;

    #[inline(always)]
    fn table_get(key: &[u32; 4]) -> Option<*const Instruction<1>> {
        FLOOR4.get_ptr(key)
    }

    #[inline(always)]
    fn table_insert(key: &[u32; 4], value: &Instruction<1>) {
        // A full table evicts: there is no error to handle.
        let _ = FLOOR4.insert(key, value, 0);
    }

    #[inline(always)]
    fn key([src]: [u32; 1], [dst]: [u32; 1], ports: u32) -> [u32; 4] {
        [src, dst, ports, 6]
    }
}

impl Family<4, 10> for V6 {
    const ADDRESSES: usize = L3 + 8;
    const TTL_WORD: usize = L3 + 6;
    const ONE_HOP: u16 = 0x100;
    const CHECKSUM: Option<usize> = None;
    const L4: usize = L3 + 40;

    #[inline(always)]
    fn table_get(key: &[u32; 10]) -> Option<*const Instruction<4>> {
        FLOOR6.get_ptr(key)
    }

    #[inline(always)]
    fn table_insert(key: &[u32; 10], value: &Instruction<4>) {
        let _ = FLOOR6.insert(key, value, 0);
    }

    #[inline(always)]
    fn key([a, b, c, d]: [u32; 4], [e, f, g, h]: [u32; 4], ports: u32) -> [u32; 10] {
        [a, b, c, d, e, f, g, h, ports, 6]
    }
}

/// A frame whose first `N` bytes were seen to be there.
#[derive(Clone, Copy)]
struct Frame<const N: usize>(*mut u8);

impl<const N: usize> Frame<N> {
    #[inline(always)]
    fn new(data: usize, data_end: usize) -> Option<Self> {
        if data + N > data_end {
            None
        } else {
            Some(Self(data as *mut u8))
        }
    }

    #[inline(always)]
    fn load<T: Copy>(self, at: usize) -> T {
        // SAFETY: `at` is a constant of a family whose headers fit in N, and N bytes were checked.
        unsafe { self.0.add(at).cast::<T>().read_unaligned() }
    }

    #[inline(always)]
    fn store<T: Copy>(self, at: usize, value: T) {
        // SAFETY: as above.
        unsafe { self.0.add(at).cast::<T>().write_unaligned(value) }
    }

    #[inline(always)]
    fn store_macs(self, macs: [u32; 3]) {
        let [a, b, c] = macs;
        self.store(0, a as u64 | (b as u64) << 32);
        self.store(8, c);
    }

    #[inline(always)]
    fn store_addresses<const WORDS: usize>(self, at: usize, src: [u32; WORDS], dst: [u32; WORDS]) {
        if WORDS == 1 {
            self.store(at, src[0] as u64 | (dst[0] as u64) << 32);
        } else {
            for i in 0..WORDS / 2 {
                self.store(at + 8 * i, src[2 * i] as u64 | (src[2 * i + 1] as u64) << 32);
                self.store(
                    at + 8 * (i + WORDS / 2),
                    dst[2 * i] as u64 | (dst[2 * i + 1] as u64) << 32,
                );
            }
        }
    }
}

#[inline(always)]
fn first<const WORDS: usize>(words: &[u32; 4]) -> [u32; WORDS] {
    let mut out = [0; WORDS];
    let mut i = 0;
    while i < WORDS {
        out[i] = words[i];
        i += 1;
    }
    out
}

/// Writes the headers of the next flow.
#[inline(always)]
fn generate<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    frame: Frame<N>,
) -> Option<()> {
    let params = PARAMS.get(0)?;
    let counter = COUNTER.get_ptr_mut(0)?;
    // SAFETY: the map's one value; the benchmark runs on one CPU.
    let number = unsafe {
        let number = *counter;
        *counter = number + 1;
        number as u32 & params.mask
    };
    let mut src: [u32; WORDS] = first(&params.src);
    // The last byte of the address is the highest of its last word.
    src[WORDS - 1] += (number & 63) << 24;
    let sport = params.sport.wrapping_add((number >> 6) as u16).to_be();
    frame.store_macs(params.macs);
    frame.store(F::TTL_WORD, params.ttl_word);
    if let Some(at) = F::CHECKSUM {
        frame.store(at, params.ip_checksum);
    }
    frame.store_addresses(F::ADDRESSES, src, first(&params.dst));
    frame.store(F::L4, sport as u32 | (params.dport as u32) << 16);
    frame.store(F::L4 + TCP_CHECKSUM, params.tcp_checksum);
    Some(())
}

/// What the floor makes of a packet.
enum Floor {
    NotOurs,
    Rewritten,
}

/// The floor: look the tuple up, make entries for a SYN without one, rewrite. `checksum` updates the segment's.
#[inline(always)]
fn floor<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    frame: Frame<N>,
    update_checksum: impl FnOnce(Frame<N>, u16, u16),
) -> Option<Floor> {
    let src: [u32; WORDS] = frame.load(F::ADDRESSES);
    let dst: [u32; WORDS] = frame.load(F::ADDRESSES + 4 * WORDS);
    let ports: u32 = frame.load(F::L4);
    let key = F::key(src, dst, ports);
    let mut found = F::table_get(&key);
    if found.is_none() {
        let flags: u8 = frame.load(F::L4 + TCP_FLAGS);
        if flags & SYN == 0 {
            return Some(Floor::NotOurs);
        }
        let params = PARAMS.get(0)?;
        let (new_src, new_dst): ([u32; WORDS], [u32; WORDS]) =
            (first(&params.new_src), first(&params.new_dst));
        // Each flow gets a reply tuple of its own, as a port allocation would give it.
        let new_ports = params.new_ports ^ (ports & 0xffff);
        let reply = Instruction {
            src: dst,
            dst: src,
            ports: ports.rotate_left(16),
            ..instruction(params)
        };
        F::table_insert(&F::key(new_dst, new_src, new_ports.rotate_left(16)), &reply);
        let forward = Instruction {
            src: new_src,
            dst: new_dst,
            ports: new_ports,
            ..instruction(params)
        };
        F::table_insert(&key, &forward);
        found = F::table_get(&key);
    }
    // SAFETY: an element of a preallocated LRU map stays memory of the map.
    let to = unsafe { &*found? };
    frame.store_macs(to.macs);
    frame.store_addresses(F::ADDRESSES, to.src, to.dst);
    frame.store(F::L4, to.ports);
    let ttl: u16 = frame.load(F::TTL_WORD);
    frame.store(F::TTL_WORD, ttl.wrapping_sub(F::ONE_HOP));
    if let Some(at) = F::CHECKSUM {
        let delta = checksum::add(to.delta_addr as u16, checksum::TTL_DELTA);
        frame.store(at, checksum::update(frame.load(at), delta));
    }
    update_checksum(frame, to.delta_addr as u16, to.delta_port as u16);
    Some(Floor::Rewritten)
}

#[inline(always)]
fn instruction<const WORDS: usize>(params: &Params) -> Instruction<WORDS> {
    // The deltas are constants: computing them would only make the floor slower.
    Instruction {
        src: first(&params.new_src),
        dst: first(&params.new_dst),
        ports: params.new_ports,
        macs: params.new_macs,
        delta_addr: 0x1234,
        delta_port: 0x4321,
    }
}

#[inline(always)]
fn xdp_generate<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    context: &XdpContext,
) -> u32 {
    let made = Frame::<N>::new(context.data(), context.data_end()).and_then(generate::<F, WORDS, KEY, N>);
    if made.is_some() {
        // SAFETY: nothing is held across the call, which returns only when no program is under test.
        unsafe { XDP_TARGET.tail_call(context, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn tc_generate<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    context: &TcContext,
) -> i32 {
    let made = Frame::<N>::new(context.data(), context.data_end()).and_then(generate::<F, WORDS, KEY, N>);
    if made.is_some() {
        // SAFETY: nothing is held across the call, which returns only when no program is under test.
        unsafe { TC_TARGET.tail_call(context, 0) };
    }
    TC_SHOT
}

#[inline(always)]
fn xdp_floor<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    context: &XdpContext,
) -> u32 {
    let Some(frame) = Frame::<N>::new(context.data(), context.data_end()) else {
        return xdp_action::XDP_PASS;
    };
    let done = floor::<F, WORDS, KEY, N>(frame, |frame, delta_addr, delta_port| {
        let at = F::L4 + TCP_CHECKSUM;
        frame.store(
            at,
            checksum::update(frame.load(at), checksum::add(delta_addr, delta_port)),
        );
    });
    match done {
        Some(Floor::Rewritten) => xdp_action::XDP_TX,
        Some(Floor::NotOurs) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn tc_floor<F: Family<WORDS, KEY>, const WORDS: usize, const KEY: usize, const N: usize>(
    context: &TcContext,
) -> i32 {
    let Some(frame) = Frame::<N>::new(context.data(), context.data_end()) else {
        return TC_UNSPEC;
    };
    let done = floor::<F, WORDS, KEY, N>(frame, |_, delta_addr, delta_port| {
        let (skb, at) = (context.as_ptr().cast(), (F::L4 + TCP_CHECKSUM) as u32);
        // SAFETY: the context is the program's own. A failure leaves a wrong checksum that nobody reads.
        unsafe {
            bpf_l4_csum_replace(skb, at, 0, delta_addr as u64, BPF_F_PSEUDO_HDR as u64);
            bpf_l4_csum_replace(skb, at, 0, delta_port as u64, 0);
        }
    });
    match (done, PARAMS.get(0)) {
        // SAFETY: plain helper call.
        (Some(Floor::Rewritten), Some(params)) => unsafe { bpf_redirect(params.ifindex, 0) as i32 },
        (Some(Floor::NotOurs), _) => TC_UNSPEC,
        _ => TC_SHOT,
    }
}

/// Bytes of the frame that are looked at.
const FRAME4: usize = L3 + 40;
const FRAME6: usize = L3 + 60;

#[xdp]
fn xdp_generate4(context: XdpContext) -> u32 {
    xdp_generate::<V4, 1, 4, FRAME4>(&context)
}

#[xdp]
fn xdp_generate6(context: XdpContext) -> u32 {
    xdp_generate::<V6, 4, 10, FRAME6>(&context)
}

#[classifier]
fn tc_generate4(context: TcContext) -> i32 {
    tc_generate::<V4, 1, 4, FRAME4>(&context)
}

#[classifier]
fn tc_generate6(context: TcContext) -> i32 {
    tc_generate::<V6, 4, 10, FRAME6>(&context)
}

#[xdp]
fn xdp_empty(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[classifier]
fn tc_empty(_context: TcContext) -> i32 {
    TC_UNSPEC
}

#[xdp]
fn xdp_floor4(context: XdpContext) -> u32 {
    xdp_floor::<V4, 1, 4, FRAME4>(&context)
}

#[xdp]
fn xdp_floor6(context: XdpContext) -> u32 {
    xdp_floor::<V6, 4, 10, FRAME6>(&context)
}

#[classifier]
fn tc_floor4(context: TcContext) -> i32 {
    tc_floor::<V4, 1, 4, FRAME4>(&context)
}

#[classifier]
fn tc_floor6(context: TcContext) -> i32 {
    tc_floor::<V6, 4, 10, FRAME6>(&context)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
