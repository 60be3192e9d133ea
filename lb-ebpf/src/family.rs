//! The two address families: the one file that names both.
//!
//! A [`Family`] says where a header keeps its fields and how its addresses are moved. Addresses stand side by side in the
//! header and in a flow entry, so that a pair of them is read and written in one go.

use crate::globals;
use crate::maps;
use crate::pipeline::scratch::Scratch;
use crate::pipeline::table;
use aya_ebpf::bindings::bpf_sock;
use lb_common::addr::{Addr4, Addr6, Address};
use lb_common::flow::FlowEntry;
use lb_common::hash;
use lb_common::layout::Stage;
use lb_common::net;
use lb_common::prefilter;
use lb_common::protocol;

/// Bytes of an untagged Ethernet header.
pub const ETH: usize = 14;

/// The last word of a key holds ports and protocol; its upper bytes are an entry's state.
const KEY_TAIL: u64 = 0x0000_00ff_ffff_ffff;

/// An address family.
pub trait Family: 'static {
    /// Its address.
    type Addr: Address + 'static;
    /// Source and destination side by side.
    type Pair: Copy;

    /// EtherType, as loaded from the frame.
    const ETHERTYPE: u16;
    /// Bytes of the header without options or extension headers.
    const HEADER: usize;
    /// AF_INET or AF_INET6.
    const AF: u8;
    /// ICMP's protocol number.
    const ICMP: u8;
    /// Where in the header source and destination stand.
    const ADDRESSES: usize;
    /// Where in the header TTL or hop limit stands.
    const TTL: usize;
    /// The stage for what is not plain, fresh and without news.
    const FULL: Stage;
    /// The stage for a connection's first packet.
    const NEW: Stage;
    /// The stage that answers with RST or ICMP.
    const REJECT: Stage;

    /// The protocol of a header that is followed by its payload at once, unless it is a fragment.
    ///
    /// # Safety
    /// `header` points at [`Self::HEADER`] readable bytes.
    unsafe fn plain(header: *const u8) -> Option<u8>;

    /// Loads the pair at `at`.
    ///
    /// # Safety
    /// `at` points at two readable addresses.
    unsafe fn load(at: *const u8) -> Self::Pair;
    /// Stores the pair at `at`.
    ///
    /// # Safety
    /// `at` points at two writable addresses.
    unsafe fn store(at: *mut u8, pair: Self::Pair);

    /// The source.
    fn first(pair: Self::Pair) -> Self::Addr;
    /// The destination.
    fn second(pair: Self::Pair) -> Self::Addr;
    /// Side by side.
    fn pair(first: Self::Addr, second: Self::Addr) -> Self::Pair;

    /// Whether two pairs are equal.
    fn same(a: Self::Pair, b: Self::Pair) -> bool;

    /// The flow table's hash of a tuple.
    fn hash(pair: Self::Pair, ports: u32, proto: u8) -> u64;
    /// Buckets minus one.
    fn mask() -> u32;
    /// The first way of a bucket.
    fn bucket(index: u32) -> Option<*mut FlowEntry<Self::Addr>>;
    /// The lock word of a bucket.
    fn lock(index: u32) -> Option<*mut u32>;
    /// This CPU's work space.
    fn scratch() -> Option<*mut Scratch<Self::Addr>>;
    /// Gets a part of the scratch ready for the three below (see [`table`]).
    fn prepare(part: u32) -> u32;
    /// Inserts it.
    fn place(part: u32, now: u32) -> u32;
    /// Takes it back.
    fn remove(part: u32) -> u32;
    /// Stores its next hop.
    fn set_next_hop(part: u32) -> u32;
    /// The bit of an address in the prefilter.
    fn prefilter_bit(addr: Self::Addr) -> u32;

    /// Whether ClusterIPs are taken from the address's range.
    fn is_service_address(addr: Self::Addr) -> bool;
    /// Whether the cluster's pods have their addresses from the address's range.
    fn is_pod_address(addr: Self::Addr) -> bool;

    /// The address that packets leaving by a device get as rewritten source.
    fn source_of(device: &lb_common::device::Device) -> Option<Self::Addr>;
    /// An address as `bpf_fib_lookup` and socket look-ups take it: in the first bytes of sixteen.
    fn in_sixteen(addr: Self::Addr) -> [u32; 4];
    /// The local address of a socket of this family.
    ///
    /// # Safety
    /// `sock` is a socket that a helper has found.
    unsafe fn local_address(sock: *const bpf_sock) -> Self::Addr;
    /// Not an address that may be answered: multicast, broadcast, unspecified, loopback.
    fn is_unanswerable(addr: Self::Addr) -> bool;
}

/// Whether the entry's key is the tuple.
///
/// # Safety
/// `entry` points into a bucket.
#[inline(always)]
pub unsafe fn key_matches<F: Family>(
    entry: *const FlowEntry<F::Addr>,
    pair: F::Pair,
    ports: u32,
    proto: u8,
) -> bool {
    // SAFETY: the caller's promise; ports and protocol stand in one aligned word behind the addresses.
    unsafe {
        let tail = (&raw const (*entry).sport).cast::<u64>().read_volatile() & KEY_TAIL;
        tail == (ports as u64 | (proto as u64) << 32) && F::same(F::load(entry.cast()), pair)
    }
}

/// IPv4 (RFC 791).
pub struct V4;
/// IPv6 (RFC 8200).
pub struct V6;

impl Family for V4 {
    type Addr = Addr4;
    type Pair = u64;

    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const HEADER: usize = 20;
    const AF: u8 = 2;
    const ICMP: u8 = protocol::ICMP;
    const ADDRESSES: usize = 12;
    const TTL: usize = 8;
    const FULL: Stage = Stage::Full4;
    const NEW: Stage = Stage::New4;
    const REJECT: Stage = Stage::Reject4;

    #[inline(always)]
    unsafe fn plain(header: *const u8) -> Option<u8> {
        // SAFETY: the caller's promise.
        let (first, fragment, proto) = unsafe {
            (
                header.read(),
                header.add(6).cast::<u16>().read_unaligned(),
                header.add(9).read(),
            )
        };
        // Version 4, no options; neither "more fragments" nor an offset.
        if first == 0x45 && fragment & 0x3fff_u16.to_be() == 0 {
            Some(proto)
        } else {
            None
        }
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<u64>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(at: *mut u8, pair: u64) {
        // SAFETY: the caller's promise.
        unsafe { at.cast::<u64>().write_unaligned(pair) }
    }

    #[inline(always)]
    fn first(pair: u64) -> Addr4 {
        Addr4(pair as u32)
    }

    #[inline(always)]
    fn second(pair: u64) -> Addr4 {
        Addr4((pair >> 32) as u32)
    }

    #[inline(always)]
    fn pair(first: Addr4, second: Addr4) -> u64 {
        first.0 as u64 | (second.0 as u64) << 32
    }

    #[inline(always)]
    fn same(a: u64, b: u64) -> bool {
        a == b
    }

    #[inline(always)]
    fn hash(pair: u64, ports: u32, proto: u8) -> u64 {
        hash::tuple4(
            &globals::seed::<4>(),
            pair as u32,
            (pair >> 32) as u32,
            ports,
            proto,
        )
    }

    #[inline(always)]
    fn mask() -> u32 {
        globals::flow4_mask()
    }

    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut FlowEntry<Addr4>> {
        maps::FLOWS4.get_ptr_mut(index).map(|b| b.cast())
    }

    #[inline(always)]
    fn lock(index: u32) -> Option<*mut u32> {
        maps::LOCKS4.get_ptr_mut(index)
    }

    #[inline(always)]
    fn scratch() -> Option<*mut Scratch<Addr4>> {
        maps::SCRATCH4.get_ptr_mut(0)
    }

    #[inline(always)]
    fn prepare(part: u32) -> u32 {
        table::flow_prepare4(part)
    }

    #[inline(always)]
    fn place(part: u32, now: u32) -> u32 {
        table::flow_place4(part, now)
    }

    #[inline(always)]
    fn remove(part: u32) -> u32 {
        table::flow_remove4(part)
    }

    #[inline(always)]
    fn set_next_hop(part: u32) -> u32 {
        table::flow_set_next_hop4(part)
    }

    #[inline(always)]
    fn prefilter_bit(addr: Addr4) -> u32 {
        prefilter::bit4(addr)
    }

    #[inline(always)]
    fn is_service_address(addr: Addr4) -> bool {
        net::contains4(globals::service_net4(), addr)
    }

    #[inline(always)]
    fn is_pod_address(addr: Addr4) -> bool {
        net::contains4(globals::cluster_net4(), addr)
    }

    #[inline(always)]
    fn source_of(device: &lb_common::device::Device) -> Option<Addr4> {
        if device.addr4.0 == 0 {
            None
        } else {
            Some(device.addr4)
        }
    }

    #[inline(always)]
    fn in_sixteen(addr: Addr4) -> [u32; 4] {
        [addr.0, 0, 0, 0]
    }

    #[inline(always)]
    unsafe fn local_address(sock: *const bpf_sock) -> Addr4 {
        // SAFETY: the caller's promise.
        Addr4(unsafe { (&raw const (*sock).src_ip4).read_volatile() })
    }

    #[inline(always)]
    fn is_unanswerable(addr: Addr4) -> bool {
        let first = u32::from_be(addr.0) >> 24;
        first == 0 || first == 127 || first >= 224
    }
}

impl Family for V6 {
    type Addr = Addr6;
    type Pair = [u64; 4];

    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const HEADER: usize = 40;
    const AF: u8 = 10;
    const ICMP: u8 = protocol::ICMPV6;
    const ADDRESSES: usize = 8;
    const TTL: usize = 7;
    const FULL: Stage = Stage::Full6;
    const NEW: Stage = Stage::New6;
    const REJECT: Stage = Stage::Reject6;

    #[inline(always)]
    unsafe fn plain(header: *const u8) -> Option<u8> {
        // SAFETY: the caller's promise.
        let (first, next) = unsafe { (header.read(), header.add(6).read()) };
        // Extension headers are told by their number, which is none of the protocols asked for.
        if first >> 4 == 6 { Some(next) } else { None }
    }

    #[inline(always)]
    unsafe fn load(at: *const u8) -> [u64; 4] {
        let at = at.cast::<u64>();
        // SAFETY: the caller's promise.
        unsafe {
            [
                at.read_unaligned(),
                at.add(1).read_unaligned(),
                at.add(2).read_unaligned(),
                at.add(3).read_unaligned(),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(at: *mut u8, pair: [u64; 4]) {
        let at = at.cast::<u64>();
        let [a, b, c, d] = pair;
        // SAFETY: the caller's promise.
        unsafe {
            at.write_unaligned(a);
            at.add(1).write_unaligned(b);
            at.add(2).write_unaligned(c);
            at.add(3).write_unaligned(d);
        }
    }

    #[inline(always)]
    fn first(pair: [u64; 4]) -> Addr6 {
        let [a, b, _, _] = pair;
        Addr6([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32])
    }

    #[inline(always)]
    fn second(pair: [u64; 4]) -> Addr6 {
        let [_, _, a, b] = pair;
        Addr6([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32])
    }

    #[inline(always)]
    fn pair(first: Addr6, second: Addr6) -> [u64; 4] {
        let word = |lo: u32, hi: u32| lo as u64 | (hi as u64) << 32;
        let ([a, b, c, d], [e, f, g, h]) = (first.0, second.0);
        [word(a, b), word(c, d), word(e, f), word(g, h)]
    }

    #[inline(always)]
    fn same(a: [u64; 4], b: [u64; 4]) -> bool {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a, b);
        // Client and backend sit in the low halves: compare those first.
        a1 == b1 && a3 == b3 && a0 == b0 && a2 == b2
    }

    #[inline(always)]
    fn hash(pair: [u64; 4], ports: u32, proto: u8) -> u64 {
        hash::tuple6(
            &globals::seed::<10>(),
            &Self::first(pair).0,
            &Self::second(pair).0,
            ports,
            proto,
        )
    }

    #[inline(always)]
    fn mask() -> u32 {
        globals::flow6_mask()
    }

    #[inline(always)]
    fn bucket(index: u32) -> Option<*mut FlowEntry<Addr6>> {
        maps::FLOWS6.get_ptr_mut(index).map(|b| b.cast())
    }

    #[inline(always)]
    fn lock(index: u32) -> Option<*mut u32> {
        maps::LOCKS6.get_ptr_mut(index)
    }

    #[inline(always)]
    fn scratch() -> Option<*mut Scratch<Addr6>> {
        maps::SCRATCH6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn prepare(part: u32) -> u32 {
        table::flow_prepare6(part)
    }

    #[inline(always)]
    fn place(part: u32, now: u32) -> u32 {
        table::flow_place6(part, now)
    }

    #[inline(always)]
    fn remove(part: u32) -> u32 {
        table::flow_remove6(part)
    }

    #[inline(always)]
    fn set_next_hop(part: u32) -> u32 {
        table::flow_set_next_hop6(part)
    }

    #[inline(always)]
    fn prefilter_bit(addr: Addr6) -> u32 {
        prefilter::bit6(addr)
    }

    #[inline(always)]
    fn is_service_address(addr: Addr6) -> bool {
        net::contains6(&globals::service_net6(), addr)
    }

    #[inline(always)]
    fn is_pod_address(addr: Addr6) -> bool {
        net::contains6(&globals::cluster_net6(), addr)
    }

    #[inline(always)]
    fn source_of(device: &lb_common::device::Device) -> Option<Addr6> {
        let [a, b, c, d] = device.addr6;
        if a | b | c | d == 0 {
            None
        } else {
            Some(Addr6(device.addr6))
        }
    }

    #[inline(always)]
    fn in_sixteen(addr: Addr6) -> [u32; 4] {
        addr.0
    }

    #[inline(always)]
    unsafe fn local_address(sock: *const bpf_sock) -> Addr6 {
        // SAFETY: the caller's promise; the kernel lets programs read it word by word.
        unsafe {
            let words = (&raw const (*sock).src_ip6).cast::<u32>();
            Addr6([
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ])
        }
    }

    #[inline(always)]
    fn is_unanswerable(addr: Addr6) -> bool {
        let [a, b, c, d] = addr.0;
        // Multicast, or :: and ::1.
        a as u8 == 0xff || (a | b | c == 0 && u32::from_be(d) <= 1)
    }
}
