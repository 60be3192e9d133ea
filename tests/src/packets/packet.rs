//! Packets as descriptions, turned into bytes by etherparse: the oracle that shares no line with the code under test.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions,
    Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    Ipv6RoutingExtensions, PacketBuilder, SingleVlanHeader, TcpHeader, VlanId, icmpv4, icmpv6,
};

use super::who::{Family, Mac, Who};

/// TCP header flags as a set of bits.
pub mod flags {
    /// FIN
    pub const FIN: u8 = 0x01;
    /// SYN
    pub const SYN: u8 = 0x02;
    /// RST
    pub const RST: u8 = 0x04;
    /// PSH
    pub const PSH: u8 = 0x08;
    /// ACK
    pub const ACK: u8 = 0x10;
    /// ECE
    pub const ECE: u8 = 0x40;
    /// CWR
    pub const CWR: u8 = 0x80;
}

/// Length of an Ethernet header without tags.
pub const ETHERNET: usize = 14;

/// A frame in words. Everything but what a case is about has an ordinary default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    macs: (Mac, Mac),
    vlan: Option<u16>,
    src: Who,
    dst: Who,
    ttl: u8,
    /// Type of service or traffic class: DSCP and ECN.
    tos: u8,
    extra: Extra,
    fragment: Option<(u16, bool)>,
    dont_fragment: bool,
    transport: Transport,
    payload: Vec<u8>,
    padding: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    None,
    /// IPv4: options. IPv6: hop-by-hop, destination, and used-up routing headers.
    Usual,
    /// IPv4: as before. IPv6: the hop-by-hop header alone.
    Short,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Transport {
    Tcp {
        sport: u16,
        dport: u16,
        flags: u8,
        seq: u32,
        ack: u32,
        window: u16,
        options: Vec<u8>,
    },
    Udp {
        sport: u16,
        dport: u16,
        checksum: bool,
    },
    EchoRequest,
    PortUnreachable,
    Other(u8),
}

impl Packet {
    fn new(src: Who, dst: Who, transport: Transport, payload: &[u8]) -> Self {
        Self {
            macs: (Mac::Client, Mac::Uplink),
            vlan: None,
            src,
            dst,
            ttl: 64,
            tos: 0,
            extra: Extra::None,
            fragment: None,
            dont_fragment: true,
            transport,
            payload: payload.to_vec(),
            padding: 0,
        }
    }

    /// A TCP segment as a client on the first uplink's wire sends it.
    #[must_use]
    pub fn tcp(src: (Who, u16), dst: (Who, u16), flags: u8) -> Self {
        let options = if flags & flags::SYN != 0 {
            vec![2, 4, 5, 180]
        } else {
            Vec::new()
        };
        let ack = if flags & flags::ACK != 0 { 0x0200_0000 } else { 0 };
        let transport = Transport::Tcp {
            sport: src.1,
            dport: dst.1,
            flags,
            seq: 0x0100_0000,
            ack,
            window: 64_240,
            options,
        };
        Self::new(src.0, dst.0, transport, b"")
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(src: (Who, u16), dst: (Who, u16)) -> Self {
        Self::new(
            src.0,
            dst.0,
            Transport::Udp {
                sport: src.1,
                dport: dst.1,
                checksum: true,
            },
            b"hello",
        )
    }

    /// An echo request.
    #[must_use]
    pub fn echo_request(src: Who, dst: Who) -> Self {
        Self::new(src, dst, Transport::EchoRequest, b"are you there")
    }

    /// A packet of a protocol nobody here balances.
    #[must_use]
    pub fn other_protocol(src: Who, dst: Who, protocol: u8) -> Self {
        Self::new(src, dst, Transport::Other(protocol), &[0; 32])
    }

    /// The answer of a host without the port: ICMP or ICMPv6 "port unreachable", with `quoted` of this packet from its IP
    /// header on.
    #[must_use]
    pub fn port_unreachable(&self, quoted: &[u8]) -> Self {
        Self {
            macs: (self.macs.1, self.macs.0),
            ..Self::new(self.dst, self.src, Transport::PortUnreachable, quoted)
        }
    }

    /// The segment a host answers to a segment for nobody (RFC 9293, 3.10.7.1): RST, with an ACK unless the segment had one.
    ///
    /// # Panics
    /// When this is no TCP segment.
    #[must_use]
    pub fn reset(&self) -> Self {
        let Transport::Tcp {
            sport,
            dport,
            flags,
            seq,
            ack,
            ..
        } = self.transport
        else {
            panic!("only TCP knows RST")
        };
        let length = u32::try_from(self.payload.len()).expect("a short payload")
            + u32::from(flags & flags::SYN != 0)
            + u32::from(flags & flags::FIN != 0);
        let (out_flags, out_seq, out_ack) = if flags & flags::ACK != 0 {
            (flags::RST, ack, 0)
        } else {
            (flags::RST | flags::ACK, 0, seq.wrapping_add(length))
        };
        let transport = Transport::Tcp {
            sport: dport,
            dport: sport,
            flags: out_flags,
            seq: out_seq,
            ack: out_ack,
            window: 0,
            options: Vec::new(),
        };
        Self {
            macs: (self.macs.1, self.macs.0),
            ..Self::new(self.dst, self.src, transport, b"")
        }
    }

    /// With another sequence number.
    ///
    /// # Panics
    /// When this is no TCP segment.
    #[must_use]
    pub fn sequence(mut self, number: u32) -> Self {
        let Transport::Tcp { seq, .. } = &mut self.transport else {
            panic!("only TCP numbers its bytes")
        };
        *seq = number;
        self
    }

    /// As a pod of the node sends it.
    #[must_use]
    pub fn from_pod(self) -> Self {
        self.hop(Mac::Pod, Mac::PodDevice)
    }

    /// As the node's stack sends it out of the first uplink to a client.
    #[must_use]
    pub fn leaving(self) -> Self {
        self.hop(Mac::Uplink, Mac::Client)
    }

    /// With these hardware addresses, source first.
    #[must_use]
    pub fn hop(self, src: Mac, dst: Mac) -> Self {
        Self {
            macs: (src, dst),
            ..self
        }
    }

    /// To another address and port.
    #[must_use]
    pub fn to(mut self, who: Who, port: u16) -> Self {
        self.dst = who;
        *self.ports().expect("only TCP and UDP have ports").1 = port;
        self
    }

    /// From another address and port.
    #[must_use]
    pub fn from(mut self, who: Who, port: u16) -> Self {
        self.src = who;
        *self.ports().expect("only TCP and UDP have ports").0 = port;
        self
    }

    /// Whether one of its ports is `port`.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        self.clone()
            .ports()
            .is_some_and(|(sport, dport)| *sport == port || *dport == port)
    }

    /// With `port` for every port that is `placeholder`.
    #[must_use]
    pub fn with_port(mut self, placeholder: u16, port: u16) -> Self {
        if let Some((sport, dport)) = self.ports() {
            for field in [sport, dport] {
                if *field == placeholder {
                    *field = port;
                }
            }
        }
        self
    }

    /// With this TTL or hop limit.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// One hop further.
    #[must_use]
    pub fn forwarded(self) -> Self {
        Self {
            ttl: self.ttl - 1,
            ..self
        }
    }

    /// With this type of service or traffic class.
    #[must_use]
    pub fn tos(self, tos: u8) -> Self {
        Self { tos, ..self }
    }

    /// With IPv4 options, or with all IPv6 extension headers that are followed: hop-by-hop, destination, routing.
    #[must_use]
    pub fn with_extra_headers(self) -> Self {
        Self {
            extra: Extra::Usual,
            ..self
        }
    }

    /// With IPv4 options, or an IPv6 hop-by-hop header.
    #[must_use]
    pub fn with_one_extra_header(self) -> Self {
        Self {
            extra: Extra::Short,
            ..self
        }
    }

    /// As a fragment: offset in units of eight bytes, and whether more follow.
    #[must_use]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        Self {
            fragment: Some((offset, more)),
            dont_fragment: false,
            ..self
        }
    }

    /// In a frame with this many bytes behind the datagram.
    #[must_use]
    pub fn padded(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// Inside a VLAN.
    #[must_use]
    pub fn vlan(self, id: u16) -> Self {
        Self {
            vlan: Some(id),
            ..self
        }
    }

    /// With this payload.
    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        Self {
            payload: payload.to_vec(),
            ..self
        }
    }

    /// UDP without a checksum (IPv4 alone has that; IPv6 keeps it).
    #[must_use]
    pub fn without_checksum(mut self) -> Self {
        if let Transport::Udp { checksum, .. } = &mut self.transport {
            *checksum = false;
        }
        self
    }

    /// Its bytes.
    ///
    /// # Panics
    /// When the description makes no packet.
    #[must_use]
    pub fn frame(&self, family: Family) -> Vec<u8> {
        let ip = self.ip_packet(family);
        let kind = match family {
            Family::V4 => EtherType::IPV4,
            Family::V6 => EtherType::IPV6,
        };
        let ether_type = if self.vlan.is_some() {
            EtherType::VLAN_TAGGED_FRAME
        } else {
            kind
        };
        let mut out = Ethernet2Header {
            source: self.macs.0.bytes(),
            destination: self.macs.1.bytes(),
            ether_type,
        }
        .to_bytes()
        .to_vec();
        if let Some(id) = self.vlan {
            let vlan_id = VlanId::try_new(id).expect("twelve bits");
            let tag = SingleVlanHeader {
                vlan_id,
                ether_type: kind,
                ..SingleVlanHeader::default()
            };
            out.extend(tag.to_bytes());
        }
        out.extend(ip);
        out.resize(out.len() + self.padding, 0);
        out
    }

    /// Its bytes from the IP header on.
    ///
    /// # Panics
    /// When the description makes no packet.
    #[must_use]
    pub fn ip_packet(&self, family: Family) -> Vec<u8> {
        let headers = self.ip_headers(family);
        let udp_at = headers.header_len();
        let step = PacketBuilder::ip(headers);
        let mut out = Vec::new();
        match (&self.transport, family) {
            (Transport::Tcp { .. }, _) => step.tcp_header(self.tcp_header()).write(&mut out, &self.payload),
            (Transport::Udp { sport, dport, .. }, _) => {
                step.udp(*sport, *dport).write(&mut out, &self.payload)
            }
            (Transport::EchoRequest, Family::V4) => {
                step.icmpv4_echo_request(7, 1).write(&mut out, &self.payload)
            }
            (Transport::EchoRequest, Family::V6) => {
                step.icmpv6_echo_request(7, 1).write(&mut out, &self.payload)
            }
            (Transport::PortUnreachable, Family::V4) => step
                .icmpv4(Icmpv4Type::DestinationUnreachable(
                    icmpv4::DestUnreachableHeader::Port,
                ))
                .write(&mut out, &self.payload),
            (Transport::PortUnreachable, Family::V6) => step
                .icmpv6(Icmpv6Type::DestinationUnreachable(
                    icmpv6::DestUnreachableCode::Port,
                ))
                .write(&mut out, &self.payload),
            (Transport::Other(protocol), _) => step.write(&mut out, IpNumber(*protocol), &self.payload),
        }
        .expect("a packet that fits its length fields");
        if let (Transport::Udp { checksum: false, .. }, Family::V4) = (&self.transport, family) {
            out[udp_at + 6..udp_at + 8].fill(0);
        }
        out
    }

    fn ip_headers(&self, family: Family) -> IpHeaders {
        match (self.src.ip(family), self.dst.ip(family)) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = Ipv4Header::new(0, self.ttl, IpNumber::UDP, src.octets(), dst.octets())
                    .expect("an empty payload");
                header.dscp = (self.tos >> 2).try_into().expect("six bits");
                header.ecn = (self.tos & 3).try_into().expect("two bits");
                header.dont_fragment = self.dont_fragment;
                if let Some((offset, more)) = self.fragment {
                    header.fragment_offset = IpFragOffset::try_new(offset).expect("thirteen bits");
                    header.more_fragments = more;
                }
                if self.extra != Extra::None {
                    // Router alert (RFC 2113), three times no operation, end of list.
                    header.options = Ipv4Options::from([0x94, 4, 0, 0, 1, 1, 1, 0]);
                }
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber::UDP,
                    hop_limit: self.ttl,
                    source: src.octets(),
                    destination: dst.octets(),
                };
                IpHeaders::Ipv6(header, self.ipv6_extensions())
            }
            _ => unreachable!("both addresses were asked for in one family"),
        }
    }

    fn ipv6_extensions(&self) -> Ipv6Extensions {
        // PadN options, as many as make eight or sixteen bytes (RFC 8200, 4.2).
        let padding = |n: usize| {
            let mut bytes = vec![1, u8::try_from(n - 2).expect("a short header")];
            bytes.resize(n, 0);
            Ipv6RawExtHeader::new_raw(IpNumber::UDP, &bytes).expect("a multiple of eight")
        };
        let mut extensions = Ipv6Extensions::default();
        if self.extra != Extra::None {
            extensions.hop_by_hop_options = Some(padding(6));
        }
        if self.extra == Extra::Usual {
            extensions.destination_options = Some(padding(14));
            // A routing header with no segment left: the destination is the last one.
            let routing = Ipv6RawExtHeader::new_raw(IpNumber::UDP, &[4, 0, 0, 0, 0, 0]).expect("eight bytes");
            extensions.routing = Some(Ipv6RoutingExtensions {
                routing,
                final_destination_options: None,
            });
        }
        extensions.fragment = self.fragment.map(|(offset, more)| {
            let offset = IpFragOffset::try_new(offset).expect("thirteen bits");
            Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, 0x1234_5678)
        });
        extensions
    }

    fn tcp_header(&self) -> TcpHeader {
        let Transport::Tcp {
            sport,
            dport,
            flags,
            seq,
            ack,
            window,
            options,
        } = &self.transport
        else {
            unreachable!("asked of TCP alone")
        };
        let mut header = TcpHeader::new(*sport, *dport, *seq, *window);
        header.acknowledgment_number = *ack;
        header.fin = flags & flags::FIN != 0;
        header.syn = flags & flags::SYN != 0;
        header.rst = flags & flags::RST != 0;
        header.psh = flags & flags::PSH != 0;
        header.ack = flags & flags::ACK != 0;
        header.ece = flags & flags::ECE != 0;
        header.cwr = flags & flags::CWR != 0;
        header.set_options_raw(options).expect("a multiple of four bytes");
        header
    }

    fn ports(&mut self) -> Option<(&mut u16, &mut u16)> {
        match &mut self.transport {
            Transport::Tcp { sport, dport, .. } | Transport::Udp { sport, dport, .. } => Some((sport, dport)),
            _ => None,
        }
    }
}

/// Source and destination port of a frame, as etherparse reads them.
#[must_use]
pub fn ports_of(frame: &[u8]) -> Option<(u16, u16)> {
    use etherparse::{SlicedPacket, TransportSlice};
    match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Tcp(tcp) => Some((tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    }
}

/// Source address of a frame, as etherparse reads it.
#[must_use]
pub fn source_of(frame: &[u8]) -> Option<IpAddr> {
    use etherparse::{NetSlice, SlicedPacket};
    match SlicedPacket::from_ethernet(frame).ok()?.net? {
        NetSlice::Ipv4(v4) => Some(v4.header().source_addr().into()),
        NetSlice::Ipv6(v6) => Some(v6.header().source_addr().into()),
        NetSlice::Arp(_) => None,
    }
}
