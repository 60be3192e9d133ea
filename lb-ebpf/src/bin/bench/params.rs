//! What the benchmark's user space tells its programs. Compiled into both.

/// Value of map `params`. Fields of headers are native words, as loaded from the header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Params {
    /// Source address of flow 0; the last byte of flow *i*'s is *i* mod 64 more.
    pub src: [u32; 4],
    /// Destination address of all flows.
    pub dst: [u32; 4],
    /// Both MACs of an arriving frame.
    pub macs: [u32; 3],
    /// Source port of flow 0, host order; flow *i* has *i* / 64 more.
    pub sport: u16,
    /// Destination port, network order.
    pub dport: u16,
    /// Number of flows minus one, a power of two minus one.
    pub mask: u32,
    /// TTL and what shares its half-word in the header: an IPv4 header's protocol, an IPv6 header's next header.
    pub ttl_word: u16,
    /// Checksum of the IPv4 header.
    pub ip_checksum: u16,
    /// Checksum of the segment.
    pub tcp_checksum: u16,
    /// Zero.
    pub pad: u16,
    /// What the floor makes of a packet: source after the rewrite.
    pub new_src: [u32; 4],
    /// Destination after the rewrite.
    pub new_dst: [u32; 4],
    /// Both ports after the rewrite, as one word of the header.
    pub new_ports: u32,
    /// Both MACs after the rewrite.
    pub new_macs: [u32; 3],
    /// Device the floor's tc program redirects to.
    pub ifindex: u32,
}
