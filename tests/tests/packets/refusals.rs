//! What refusals say, and to what nobody answers.

use lab::packets::Outcome::{Answered, Dropped, Untouched};
use lab::packets::{Case, Family, Options, Packet, Place, Service, Who, check, check_with, flags};
use lb_common::reason::Reason;

use flags::{ACK, FIN, PSH, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);

fn nobody() -> [Service; 2] {
    [Service::tcp(Who::Vip, 80), Service::udp(Who::Vip, 53)]
}

fn segment(flags: u8) -> Packet {
    Packet::tcp(CLIENT, (Who::Vip, 80), flags)
}

/// S21: RFC 9293, 3.10.7.1. SYN and FIN count as a byte each, options as none, and numbers wrap.
#[test]
fn a_reset_acknowledges_all_that_the_segment_takes_up() {
    const BEFORE_WRAP: u32 = u32::MAX - 1;
    let refused = |name, syn: Packet| {
        let reset = Answered(syn.reset(), Reason::Rejected);
        Case::new(name, nobody()).send(Place::Uplink, syn, reset)
    };
    let one_backend = [Service::tcp(Who::Vip, 80).backend(Who::Pod, 8080)];
    let forgotten = |name, segment: Packet| {
        let reset = Answered(segment.reset(), Reason::EndpointGone);
        let syn = self::segment(SYN);
        let served = lab::packets::Outcome::ToStack(syn.clone().to(Who::Pod, 8080));
        Case::new(name, one_backend.clone())
            .send(Place::Uplink, syn, served)
            .then("the endpoint dies", |datapath, _| {
                datapath.backend(1, |backend| backend.generation += 1)
            })
            .send(Place::Uplink, segment, reset)
    };
    check([
        refused("a SYN before the wrap", segment(SYN).sequence(BEFORE_WRAP)),
        refused("a SYN with the wrap in its data", {
            segment(SYN).sequence(BEFORE_WRAP).payload(b"early data")
        }),
        refused("a SYN with data of odd length", segment(SYN).payload(b"early")),
        forgotten("data and FIN without ACK", {
            segment(FIN | PSH).sequence(BEFORE_WRAP).payload(b"the end")
        }),
        forgotten("data with ACK: numbers are what it acknowledges", {
            segment(ACK | PSH).sequence(BEFORE_WRAP).payload(b"more")
        }),
    ]);
}

/// S44: neither without endpoints (S21) nor at a port the ClusterIP does not have (S24) is a segment of a connection refused
/// that began elsewhere.
#[test]
fn a_segment_of_no_connection_of_ours_is_not_refused() {
    let untouched = |packet: Packet| (Place::Uplink, packet, Untouched(Reason::MidFlow));
    let services = || {
        vec![
            Service::tcp(Who::ClusterIp, 80),
            Service::unknown_ports(Who::ClusterIp),
        ]
    };
    let cases = [80, 81].into_iter().flat_map(|port| {
        let to = move |flags| Packet::tcp(CLIENT, (Who::ClusterIp, port), flags);
        [
            ("an acknowledgement", to(ACK)),
            ("data", to(ACK | PSH).payload(b"more")),
            ("the end", to(ACK | FIN)),
            ("an answer to a SYN", to(SYN | ACK)),
        ]
    });
    check(cases.map(|(name, packet)| {
        let (place, packet, outcome) = untouched(packet);
        Case::new(name, services()).send(place, packet, outcome)
    }));
}

/// `rejectsPerSecond` is for both kinds together.
#[test]
fn resets_and_unreachables_share_a_ration() {
    let options = || Options {
        rejects_per_second: 2,
        ..Options::default()
    };
    for family in Family::BOTH {
        let datagram = Packet::udp(CLIENT, (Who::Vip, 53)).payload(b"anybody?");
        let quoted = datagram.ip_packet(family);
        let unreachable = datagram.port_unreachable(&quoted);
        let syn = segment(SYN);
        check_with(
            options(),
            [Case::new("two a second, and no third", nobody())
                .only(family)
                .send(
                    Place::Uplink,
                    datagram.clone(),
                    Answered(unreachable, Reason::Rejected),
                )
                .send(
                    Place::Uplink,
                    syn.clone(),
                    Answered(syn.reset(), Reason::Rejected),
                )
                .send(Place::Uplink, datagram, Dropped(Reason::RejectRate))
                .send(Place::Uplink, syn, Dropped(Reason::RejectRate))],
        );
    }
}
