//! What the storm's user space and its programs share. Compiled into both.

/// Service ports of the storm, a power of two, each with one backend of its own: so a flow has one right way.
pub(crate) const SERVICES: u32 = 16;
/// The first of them have their backend on the node, the others elsewhere.
pub(crate) const LOCAL_SERVICES: u32 = 4;

/// In a packet's sequence field: the packet is the storm's; the flow's number stands below.
pub(crate) const SENT: u32 = 1 << 31;
/// In a packet's sequence field: it is the backend's.
pub(crate) const REPLY: u32 = 1 << 30;

/// Value of map `storm`. Fields of headers are native words, as loaded from the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Storm {
    /// Address of the first of eight clients; the last byte counts. Client of flow *i* is *i* mod 8.
    pub client: [u32; 4],
    /// Address of all services. Service of flow *i* is *i* / 8 mod [`SERVICES`].
    pub vip: [u32; 4],
    /// Source of what goes on to another node.
    pub node: [u32; 4],
    /// Address of the backends on the node.
    pub pod: [u32; 4],
    /// Address of the others.
    pub remote: [u32; 4],
    /// Both MACs of an arriving frame.
    pub macs: [u32; 3],
    /// Both MACs of a request that goes on.
    pub request_macs: [u32; 3],
    /// Both MACs of a reply that goes on.
    pub reply_macs: [u32; 3],
    /// Number of flows minus one, a power of two minus one.
    pub mask: u32,
    /// Whether connections end: zero for no.
    pub ends: u32,
    /// Source port of flow 0, host order; flow *i* has *i* more.
    pub client_port: u16,
    /// Port of service 0, host order.
    pub vip_port: u16,
    /// Port of its backend, host order.
    pub backend_port: u16,
    /// First port of rewritten sources, host order.
    pub snat_first: u16,
    /// How many of them there are.
    pub snat_count: u16,
    /// TTL and what shares its half-word in the header: an IPv4 header's protocol, an IPv6 header's next header.
    pub ttl_word: u16,
}

/// Value of map `storm_counts`: packets, and what had become of them when the next came.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Packets that were handed to the program.
    pub sent: u64,
    /// They were as they had been.
    pub untouched: u64,
    /// Requests, rewritten as their flow demands.
    pub requests: u64,
    /// Replies, rewritten as their flow demands.
    pub replies: u64,
    /// Anything else.
    pub wrong: u64,
}

/// Value of map `storm_wrong`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wrong {
    /// The packet's sequence field as it was sent.
    pub mark: u32,
    /// The first bytes of the frame as it was left.
    pub frame: [u32; 21],
}
