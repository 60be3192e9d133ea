//! This CPU's work space: what is too large for a 512-byte stack. Programs of one CPU never nest (all run with soft interrupts
//! off), and nothing in it outlives a program.

use super::nexthop::FibLookup;
use lb_common::addr::Address;
use lb_common::flow::FlowEntry;

/// What the packet's headers say (see [`super::parse`]).
#[repr(C, align(8))]
pub struct Parsed<A: Address> {
    /// Source address.
    pub src: A,
    /// Destination address, right behind it.
    pub dst: A,
    /// Both ports, as loaded.
    pub ports: u32,
    /// Offset of the transport header.
    pub l4: u32,
    /// Bytes from there to the end of the datagram.
    pub payload: u32,
    /// TCP or UDP.
    pub proto: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Flags of the TCP header.
    pub tcp_flags: u8,
    /// Fills the word.
    pub pad: u8,
}

/// The work space.
#[repr(C, align(8))]
pub struct Scratch<A: Address> {
    /// What the packet's headers say.
    pub parsed: Parsed<A>,
    /// The entry of the packet's own direction.
    pub forward: FlowEntry<A>,
    /// The entry of the other direction.
    pub reply: FlowEntry<A>,
    /// An entry that had to give way.
    pub evicted: FlowEntry<A>,
    /// Hash of the part that is to be placed or changed.
    pub hash: u64,
    /// The place that was found for it.
    pub score: u64,
    /// Parameters of a route look-up.
    pub fib: FibLookup,
}

/// An entry of the work space.
#[repr(u32)]
#[derive(Clone, Copy)]
pub enum Part {
    /// [`Scratch::forward`]
    Forward = 0,
    /// [`Scratch::reply`]
    Reply = 1,
    /// The other half of [`Scratch::evicted`].
    EvictedMirror = 2,
}

/// Clears the next hop's addresses word by word: LLVM would make a call of it.
#[inline(always)]
pub fn clear_macs<A: Address>(entry: &mut FlowEntry<A>) {
    let macs = (&raw mut entry.macs).cast::<u32>();
    // SAFETY: three words.
    unsafe {
        macs.write_volatile(0);
        macs.add(1).write_volatile(0);
        macs.add(2).write_volatile(0);
    }
}
