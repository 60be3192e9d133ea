//! What refusals do to real sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};
use lab::capture::Capture;
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::netns::NsHandle;

use crate::on_both_shapes;
use crate::standard::{FAMILIES, NEAR, Standard};

on_both_shapes!(sockets_are_told_that_the_connection_is_refused);

const LONG: Duration = Duration::from_secs(5);
/// The longest ICMP errors: RFC 1812, 4.3.2.3, and RFC 4443, 2.4.
const LONGEST: [usize; 2] = [576, 1280];
/// With these many bytes, short datagrams and those whose quote has to be cut.
const PAYLOADS: [usize; 4] = [0, 1, 99, 1400];

/// S21, S24: `ECONNREFUSED`, for TCP and UDP. The error comes from the address that was called, its checksums are right, and it
/// is as short as it has to be.
fn sockets_are_told_that_the_connection_is_refused(shape: Shape) {
    let mut standard = Standard::start(shape);
    let empty = Service::new("empty", 20).with_load_balancer();
    standard.lab.write(&empty, &[]).unwrap();
    standard.lab.start_agents(&[]).unwrap();
    let lab = &standard.lab;
    let mut unknown_ports = FAMILIES.map(|v6| standard.near.cluster_ip(v6));
    for address in &mut unknown_ports {
        address.set_port(4444);
    }
    for v6 in FAMILIES {
        let addresses = [
            empty.cluster_ip(v6),
            empty.load_balancer(v6),
            lab.node_port(0, &empty, v6),
            unknown_ports[usize::from(v6)],
        ];
        for to in addresses {
            let clients = [lab.topology().client().ns(), lab.pod(NEAR[1]).ns()];
            for ns in clients {
                let error = ns.run(move || TcpStream::connect_timeout(&to, LONG)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "TCP to {to}: {error}");
                for payload in PAYLOADS {
                    let error = datagram(ns, to, payload).unwrap_err();
                    let what = format!("{payload} bytes by UDP to {to}: {error}");
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{what}");
                }
            }
            check_error(lab, to);
        }
    }
}

/// Sends bytes from a connected socket and waits for what comes.
fn datagram(ns: &NsHandle, to: SocketAddr, bytes: usize) -> io::Result<usize> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
        .parse()
        .expect("a constant");
    ns.run(move || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(LONG))?;
        socket.send(&vec![0x5a; bytes])?;
        socket.recv(&mut [0; 16])
    })
}

/// The error that a datagram of full length gets, as it comes to the outside client.
fn check_error(lab: &ClusterLab, to: SocketAddr) {
    let client = lab.topology().client();
    let capture = Capture::start(client.uplink()).unwrap();
    datagram(client.ns(), to, 1400).unwrap_err();
    let frame = capture
        .wait_for("an ICMP error", LONG, |frame| {
            !frame.outgoing && unreachable_from(&frame.bytes).is_some()
        })
        .unwrap();
    let (from, length, quoted) = unreachable_from(&frame.bytes).unwrap();
    assert_eq!(from, to.ip());
    assert!(length <= LONGEST[usize::from(to.is_ipv6())], "{length} bytes");
    let inner = match to {
        SocketAddr::V4(_) => etherparse::Ipv4HeaderSlice::from_slice(&quoted)
            .map(|header| IpAddr::from(header.destination_addr()))
            .unwrap(),
        SocketAddr::V6(_) => etherparse::Ipv6HeaderSlice::from_slice(&quoted)
            .map(|header| IpAddr::from(header.destination_addr()))
            .unwrap(),
    };
    assert_eq!(inner, to.ip(), "the packet that is quoted is the client's own");
}

/// Source and length of a port unreachable whose checksum is right, and what it quotes.
fn unreachable_from(frame: &[u8]) -> Option<(IpAddr, usize, Vec<u8>)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match (packet.net?, packet.transport?) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let kind = icmp.icmp_type();
            let port = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
            let sum = kind.calc_checksum(icmp.payload());
            let header = ip.header();
            let from = header.source_addr().into();
            let is_right = kind == port && sum == icmp.checksum();
            is_right.then(|| (from, header.total_len().into(), icmp.payload().to_vec()))
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let kind = icmp.icmp_type();
            let port = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
            let header = ip.header();
            let is_right = kind == port && icmp.is_checksum_valid(header.source(), header.destination());
            let length = 40 + usize::from(header.payload_length());
            is_right.then(|| (header.source_addr().into(), length, icmp.payload().to_vec()))
        }
        _ => None,
    }
}
