//! What must survive a rewrite, and what must be parsed on the way to it.

use lab::packets::Outcome::{SentBack, ToStack, Untouched};
use lab::packets::{CHOSEN, Case, Family, Mac, Packet, Place, Service, Who, check, flags};
use lb_common::reason::Reason;

use flags::{ACK, CWR, ECE, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);

fn tcp_to(backend: Who) -> Service {
    Service::tcp(Who::Vip, 80).backend(backend, 8080)
}

fn udp_to(backend: Who) -> Service {
    Service::udp(Who::Vip, 53).backend(backend, 5353)
}

fn local(packet: &Packet, port: u16) -> lab::packets::Outcome {
    ToStack(packet.clone().to(Who::Pod, port))
}

fn remote(packet: &Packet, port: u16) -> lab::packets::Outcome {
    let packet = packet.clone().from(Who::Node, CHOSEN).to(Who::RemotePod, port);
    SentBack(packet.hop(Mac::Uplink, Mac::RemoteNode).forwarded())
}

#[test]
fn options_and_extension_headers_stay_and_checksums_come_out_right() {
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN);
    let datagram = Packet::udp(CLIENT, (Who::Vip, 53)).payload(b"odd number of bytes");
    let mut cases = Vec::new();
    for (name, dress) in [
        (
            "IPv4 options or all extension headers",
            Packet::with_extra_headers as fn(Packet) -> Packet,
        ),
        (
            "IPv4 options or a hop-by-hop header",
            Packet::with_one_extra_header,
        ),
    ] {
        let (syn, datagram) = (dress(syn.clone()), dress(datagram.clone()));
        let ack = dress(Packet::tcp(CLIENT, (Who::Vip, 80), ACK));
        cases.extend([
            Case::new(name, [tcp_to(Who::Pod)])
                .send(Place::Uplink, syn.clone(), local(&syn, 8080))
                .send(Place::Uplink, ack.clone(), local(&ack, 8080)),
            Case::new(name, [tcp_to(Who::RemotePod)])
                .send(Place::Uplink, syn.clone(), remote(&syn, 8080))
                .send(Place::Uplink, ack.clone(), remote(&ack, 8080)),
            Case::new(name, [udp_to(Who::Pod)]).send(Place::Uplink, datagram.clone(), local(&datagram, 5353)),
            Case::new(name, [udp_to(Who::RemotePod)]).send(
                Place::Uplink,
                datagram.clone(),
                remote(&datagram, 5353),
            ),
        ]);
    }
    check(cases);
}

#[test]
fn a_routing_header_with_segments_left_is_on_its_way_to_somebody_else() {
    /// Hop-by-hop is 8 bytes, destination options 16; segments left is the routing header's fourth byte.
    const SEGMENTS_LEFT: usize = 14 + 40 + 8 + 16 + 3;
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN).with_extra_headers();
    check([Case::new("segments left", [tcp_to(Who::Pod)])
        .only(Family::V6)
        .send_spoiled(
            Place::Uplink,
            syn,
            |frame, _| frame[SEGMENTS_LEFT] = 1,
            Untouched(Reason::ExtensionHeaders),
        )]);
}

#[test]
fn udp_without_a_checksum_stays_without_and_a_sum_of_zero_is_sent_as_ones() {
    let bare = Packet::udp(CLIENT, (Who::Vip, 53)).without_checksum();
    let mut cases = vec![
        Case::new("no checksum, local", [udp_to(Who::Pod)]).send(
            Place::Uplink,
            bare.clone(),
            local(&bare, 5353),
        ),
        Case::new("no checksum, remote", [udp_to(Who::RemotePod)]).send(
            Place::Uplink,
            bare.clone(),
            remote(&bare, 5353),
        ),
    ];
    // One of all 65,536 values of a word of payload makes the rewritten sum come out as zero: etherparse tells which.
    for family in Family::BOTH {
        let datagram = |word: u16| Packet::udp(CLIENT, (Who::Vip, 53)).payload(&word.to_be_bytes());
        let checksum_at = if family == Family::V4 {
            14 + 20 + 6
        } else {
            14 + 40 + 6
        };
        let zero = (0..=u16::MAX)
            .find(|word| {
                let frame = datagram(*word).to(Who::Pod, 5353).frame(family);
                frame[checksum_at..checksum_at + 2] == [0xff, 0xff]
            })
            .expect("one of all words");
        let packet = datagram(zero);
        cases.push(Case::new("a sum of zero", [udp_to(Who::Pod)]).only(family).send(
            Place::Uplink,
            packet.clone(),
            local(&packet, 5353),
        ));
    }
    check(cases);
}

#[test]
fn ttl_goes_down_only_where_the_packet_is_forwarded_here() {
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN);
    check([
        Case::new("the stack decrements by itself", [tcp_to(Who::Pod)])
            .send(
                Place::Uplink,
                syn.clone().ttl(1),
                local(&syn.clone().ttl(1), 8080),
            )
            .send(
                Place::Uplink,
                Packet::tcp(CLIENT, (Who::Vip, 80), ACK).ttl(17),
                local(&Packet::tcp(CLIENT, (Who::Vip, 80), ACK).ttl(17), 8080),
            ),
        Case::new("two becomes one", [tcp_to(Who::RemotePod)]).send(
            Place::Uplink,
            syn.clone().ttl(2),
            remote(&syn.clone().ttl(2), 8080),
        ),
        Case::new(
            "one is left to the stack, which answers",
            [tcp_to(Who::RemotePod)],
        )
        .send(Place::Uplink, syn.clone().ttl(1), Untouched(Reason::TtlExpired))
        .send(Place::Uplink, syn.clone(), remote(&syn, 8080))
        .send(
            Place::Uplink,
            Packet::tcp(CLIENT, (Who::Vip, 80), ACK).ttl(1),
            Untouched(Reason::TtlExpired),
        ),
    ]);
}

#[test]
fn class_of_service_congestion_marks_and_flags_are_kept() {
    let marked = |flags| Packet::tcp(CLIENT, (Who::Vip, 80), flags).tos(0b1011_1011);
    check([
        Case::new("to the stack", [tcp_to(Who::Pod)])
            .send(
                Place::Uplink,
                marked(SYN | ECE | CWR),
                local(&marked(SYN | ECE | CWR), 8080),
            )
            .send(Place::Uplink, marked(ACK | ECE), local(&marked(ACK | ECE), 8080)),
        Case::new("to another node", [tcp_to(Who::RemotePod)])
            .send(
                Place::Uplink,
                marked(SYN | ECE | CWR),
                remote(&marked(SYN | ECE | CWR), 8080),
            )
            .send(Place::Uplink, marked(ACK | CWR), remote(&marked(ACK | CWR), 8080)),
    ]);
}
