//! Flow entries of both families as one type, for expectations and for tampering with them.

use std::net::SocketAddr;

use lb_common::addr::{Addr, Address};
use lb_common::flow::{FlowEntry, Forward, HookClass, REPLY, TOMBSTONE, class_of, forward_of};
use lb_common::port::Port;

/// A flow entry in the user's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Key: protocol number.
    pub proto: u8,
    /// Key: source on the wire.
    pub src: SocketAddr,
    /// Key: destination on the wire.
    pub dst: SocketAddr,
    /// Source after the rewrite.
    pub new_src: SocketAddr,
    /// Destination after the rewrite.
    pub new_dst: SocketAddr,
    /// Where it acts.
    pub class: HookClass,
    /// How its packets go on.
    pub forward: Forward,
    /// Whether it is for packets from the backend to the client.
    pub reply: bool,
    /// What its rewrite adds to the sums over addresses and over ports, native words of the header.
    pub deltas: (u16, u16),
    /// The same three of the other half, as this entry remembers them: where it acts, how its packets go on, its direction.
    pub mirror: (HookClass, Forward, bool),
    /// Device its packets leave by.
    pub ifindex: u32,
    /// Everything that changes in a flow's life.
    pub state: State,
}

/// The mutable part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Odd while the entry is written.
    pub seq: u32,
    /// When last seen, jiffies.
    pub last: u32,
    /// What this direction has shown.
    pub own: u8,
    /// What the other had shown when last looked at.
    pub peer: u8,
    /// Backend index.
    pub backend: u32,
    /// The backend's generation.
    pub generation: u16,
}

impl Flow {
    pub(super) fn read<A: Address>(entry: &FlowEntry<A>) -> Option<Self> {
        let socket = |addr: A, port: Port| SocketAddr::new(Into::<Addr>::into(addr).to_ip(), port.number());
        (entry.proto != 0 && entry.proto != TOMBSTONE).then(|| Self {
            proto: entry.proto,
            src: socket(entry.src, entry.sport),
            dst: socket(entry.dst, entry.dport),
            new_src: socket(entry.new_src, entry.new_sport),
            new_dst: socket(entry.new_dst, entry.new_dport),
            class: entry.class(),
            forward: entry.forward(),
            reply: entry.is_reply(),
            deltas: (entry.delta_addr, entry.delta_port),
            mirror: (
                class_of(entry.mirror),
                forward_of(entry.mirror),
                entry.mirror & REPLY != 0,
            ),
            ifindex: entry.ifindex,
            state: State {
                seq: entry.seq,
                last: entry.last,
                own: entry.own,
                peer: entry.peer,
                backend: entry.backend,
                generation: entry.generation,
            },
        })
    }
}

impl State {
    pub(super) fn write<A: Address>(self, entry: &mut FlowEntry<A>) {
        entry.seq = self.seq;
        entry.last = self.last;
        entry.own = self.own;
        entry.peer = self.peer;
        entry.backend = self.backend;
        entry.generation = self.generation;
    }
}
