//! Flow entries of both families as one type.
//!
//! Owns: the neutral form and the pairing of a connection's two entries. Must not know: how they are shown.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use lb_common::addr::Address;
use lb_common::flow::{FlowEntry, Forward, HookClass};
use lb_common::lifetime;
use lb_common::port::Port;

use super::Snapshot;

/// Addresses, ports and protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// The protocol's number.
    pub proto: u8,
    /// Where it comes from.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
}

impl Tuple {
    /// The tuple of an answer.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            proto: self.proto,
            src: self.dst,
            dst: self.src,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.src, self.dst)
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The packet as it comes.
    pub key: Tuple,
    /// The packet as it goes on.
    pub rewritten: Tuple,
    /// What this direction showed, [`lb_common::lifetime::seen`].
    pub own: u8,
    /// What the other direction had shown when last looked at.
    pub peer: u8,
    /// Jiffies when last seen.
    pub last: u32,
    /// The sequence; odd while the entry is written.
    pub seq: u32,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation when the flow was made.
    pub generation: u16,
    /// Where it acts.
    pub class: HookClass,
    /// How its packets go on.
    pub forward: Forward,
    /// From the backend to the client.
    pub reply: bool,
    /// The `kind` from which the other half is made again.
    pub mirror: u8,
    /// The device it leaves by.
    pub ifindex: u32,
    /// Destination MAC of the next hop.
    pub next_hop: [u8; 6],
    /// Source MAC it leaves with.
    pub source_mac: [u8; 6],
}

impl Flow {
    fn new<A: Address>(entry: &FlowEntry<A>) -> Self {
        let socket = |addr: A, port: Port| SocketAddr::new(addr.into().to_ip(), port.number());
        let macs: [u8; 12] = bytemuck::cast(entry.macs);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = macs;
        Self {
            key: Tuple {
                proto: entry.proto,
                src: socket(entry.src, entry.sport),
                dst: socket(entry.dst, entry.dport),
            },
            rewritten: Tuple {
                proto: entry.proto,
                src: socket(entry.new_src, entry.new_sport),
                dst: socket(entry.new_dst, entry.new_dport),
            },
            own: entry.own,
            peer: entry.peer,
            last: entry.last,
            seq: entry.seq,
            backend: entry.backend,
            generation: entry.generation,
            class: entry.class(),
            forward: entry.forward(),
            reply: entry.is_reply(),
            mirror: entry.mirror,
            ifindex: entry.ifindex,
            next_hop: [a, b, c, d, e, f],
            source_mac: [g, h, i, j, k, l],
        }
    }
}

/// A connection: the entry towards the backend and, where it is there, the one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Towards the backend.
    pub forward: Flow,
    /// Back to the client.
    pub reply: Option<Flow>,
}

impl Connection {
    /// What the client has shown, as either entry knows.
    #[must_use]
    pub fn client_seen(&self) -> u8 {
        self.forward.own | self.reply.map_or(0, |reply| reply.peer)
    }

    /// What the backend has shown.
    #[must_use]
    pub fn backend_seen(&self) -> u8 {
        self.forward.peer | self.reply.map_or(0, |reply| reply.own)
    }
}

impl Snapshot {
    /// Every entry of both tables, in the order of their keys.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let flows4 = self.flows4.iter().map(Flow::new);
        let flows6 = self.flows6.iter().map(Flow::new);
        let mut flows: Vec<Flow> = flows4.chain(flows6).collect();
        flows.sort_by_key(|flow| flow.key);
        flows
    }

    /// The flows folded into connections, in the order of their forward keys; replies without a forward entry are left out.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let flows = self.flows();
        let replies: HashMap<Tuple, Flow> = flows
            .iter()
            .filter(|flow| flow.reply)
            .map(|flow| (flow.key, *flow))
            .collect();
        let forward = flows.into_iter().filter(|flow| !flow.reply);
        forward
            .map(|flow| Connection {
                forward: flow,
                reply: replies.get(&flow.rewritten.reversed()).copied(),
            })
            .collect()
    }

    /// Whether an entry would be used: its backend's generation is its own, and it has not outlived its timeout.
    #[must_use]
    pub fn is_live(&self, flow: &Flow) -> bool {
        let low_half = |generation: u32| generation.to_le_bytes();
        let valid = self.backends.get(&flow.backend).is_some_and(|backend| {
            let [a, b, _, _] = low_half(backend.generation);
            u16::from_le_bytes([a, b]) == flow.generation
        });
        let expired = match (&self.settings, self.jiffies()) {
            (Some(settings), Some(now)) => {
                let timeouts = settings.timeouts.in_jiffies(settings.hz);
                lifetime::expired(now, flow.last, timeouts.of(flow.key.proto, flow.own, flow.peer))
            }
            _ => false,
        };
        valid && !expired
    }
}
