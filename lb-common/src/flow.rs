//! Map `flows4` and `flows6`: the flow table.
//!
//! An array of buckets of [`WAYS`] entries. An entry is keyed by a tuple as it stands on the wire and is a complete
//! instruction for the packets that carry it. Every connection has two, one a direction. See ARCHITECTURE.md for the
//! protocol of readers and writers.

use crate::addr::{Addr4, Addr6, Address};
use crate::port::Port;
use bytemuck::{Pod, Zeroable};

/// `proto` of an entry that was taken back. A place once used never looks empty again: readers go on to the second bucket
/// only when the first is full, so a first bucket must not seem to empty itself.
pub const TOMBSTONE: u8 = 0xff;

/// Entries in a bucket.
pub const WAYS: usize = 4;

/// Where an entry acts; a hit elsewhere passes untouched.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HookClass {
    /// XDP or tc ingress of an uplink.
    UplinkIngress = 0,
    /// tc ingress of a pod device.
    PodIngress = 1,
    /// tc egress of an uplink, a pod device or the loopback device.
    Egress = 2,
}

/// How a rewritten packet goes on.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forward {
    /// Through the host's stack (tc only: XDP leaves the packet to tc).
    Stack = 0,
    /// Out of `ifindex` with the cached addresses.
    Redirect = 1,
    /// Out of `ifindex`, the kernel resolving the neighbour (tc only).
    Neighbour = 2,
    /// To the host's stack as if it had come in by `ifindex` (tc only): for sockets of the host.
    Receive = 5,
}
// 3 and 4 are kept for the tunnel (DSR) and for the redirect into a pod's device.

/// `kind` and `mirror`: bits 0–1 the [`HookClass`], bits 2–4 the [`Forward`], bit 5 [`REPLY`].
pub const CLASS_MASK: u8 = 0b0000_0011;
/// Where [`Forward`] stands in `kind`.
pub const FORWARD_SHIFT: u8 = 2;
/// The [`Forward`] bits of `kind`.
pub const FORWARD_MASK: u8 = 0b0001_1100;
/// The entry is for packets from the backend to the client.
pub const REPLY: u8 = 0b0010_0000;

/// Builds `kind`.
#[inline(always)]
#[must_use]
pub const fn kind(class: HookClass, forward: Forward, reply: bool) -> u8 {
    class as u8 | (forward as u8) << FORWARD_SHIFT | if reply { REPLY } else { 0 }
}

/// One direction of one connection: key, instruction, state. All-zero is an empty place, [`TOMBSTONE`] a place whose
/// entry was taken back.
///
/// [`Address::EntryPad`] fills the entry to whole cache lines: 64 bytes for IPv4, 128 for IPv6.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowEntry<A: Address> {
    /// Key: source address on the wire.
    pub src: A,
    /// Key: destination address on the wire.
    pub dst: A,
    /// Key: source port on the wire.
    pub sport: Port,
    /// Key: destination port on the wire.
    pub dport: Port,
    /// Key: protocol number; 0 = empty place.
    pub proto: u8,
    /// [`crate::lifetime::seen`] bits of this direction; written by it alone.
    pub own: u8,
    /// The other half's `own` as of the last look at it.
    pub peer: u8,
    /// `kind` of the other half, from which it is made again when it was lost.
    pub mirror: u8,
    /// Sequence of the entry: odd while it is written.
    pub seq: u32,
    /// Low half of jiffies when last seen; stored at most once a second.
    pub last: u32,
    /// Source address after the rewrite.
    pub new_src: A,
    /// Destination address after the rewrite.
    pub new_dst: A,
    /// Source port after the rewrite.
    pub new_sport: Port,
    /// Destination port after the rewrite.
    pub new_dport: Port,
    /// What the addresses' rewrite adds to a one's complement sum.
    pub delta_addr: u16,
    /// What the ports' rewrite adds.
    pub delta_port: u16,
    /// Destination and source MAC of the next hop, as the first twelve bytes of the frame.
    pub macs: [u32; 3],
    /// Device the packet leaves by, or is received by ([`Forward::Receive`]); for [`Forward::Stack`] replies, the uplink the
    /// request came in on (0: unknown).
    pub ifindex: u32,
    /// Index of the backend in `backends`.
    pub backend: u32,
    /// Low half of the backend's generation when the flow was made: the entry is good while they are equal.
    pub generation: u16,
    /// [`HookClass`], [`Forward`], [`REPLY`].
    pub kind: u8,
    /// Kept for later flags (assured, tunnel).
    pub flags: u8,
    /// Fills the cache line.
    pub pad: A::EntryPad,
}

/// Entry of `flows4`.
pub type FlowEntry4 = FlowEntry<Addr4>;
/// Entry of `flows6`.
pub type FlowEntry6 = FlowEntry<Addr6>;

const _: () = assert!(size_of::<FlowEntry4>() == 64);
const _: () = assert!(size_of::<FlowEntry6>() == 128);

// SAFETY: all fields are integers and integer arrays, laid out by repr(C) without gaps: the sizes asserted above are the sums
// of the fields' sizes.
unsafe impl Zeroable for FlowEntry4 {}
// SAFETY: as above.
unsafe impl Pod for FlowEntry4 {}
// SAFETY: as above.
unsafe impl Zeroable for FlowEntry6 {}
// SAFETY: as above.
unsafe impl Pod for FlowEntry6 {}

impl<A: Address> FlowEntry<A> {
    /// Where the entry acts. Two bits hold three classes; the fourth value is never written and reads as [`HookClass::Egress`].
    #[inline(always)]
    #[must_use]
    pub const fn class(&self) -> HookClass {
        class_of(self.kind)
    }

    /// How its packets go on.
    #[inline(always)]
    #[must_use]
    pub const fn forward(&self) -> Forward {
        forward_of(self.kind)
    }

    /// Whether it is for packets from the backend to the client.
    #[inline(always)]
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.kind & REPLY != 0
    }
}

/// The [`HookClass`] in a `kind`.
#[inline(always)]
#[must_use]
pub const fn class_of(kind: u8) -> HookClass {
    match kind & CLASS_MASK {
        0 => HookClass::UplinkIngress,
        1 => HookClass::PodIngress,
        _ => HookClass::Egress,
    }
}

/// The [`Forward`] in a `kind`; values kept for later read as [`Forward::Neighbour`].
#[inline(always)]
#[must_use]
pub const fn forward_of(kind: u8) -> Forward {
    match (kind & FORWARD_MASK) >> FORWARD_SHIFT {
        0 => Forward::Stack,
        1 => Forward::Redirect,
        5 => Forward::Receive,
        _ => Forward::Neighbour,
    }
}

/// Value of `flows4`.
pub type Bucket4 = [FlowEntry4; WAYS];
/// Value of `flows6`.
pub type Bucket6 = [FlowEntry6; WAYS];
