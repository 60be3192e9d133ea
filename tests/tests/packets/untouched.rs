//! What is not ours passes byte for byte, with its reason counted.

use lab::packets::Outcome::{ToStack, Untouched};
use lab::packets::{
    Case, Datapath, Family, Hook, Mac, Options, Packet, Place, Run, Service, Testbed, Verdict, Who, check,
    flags,
};
use lb_common::reason::Reason;

use flags::{ACK, FIN, PSH, RST, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const VIP: (Who, u16) = (Who::Vip, 80);

fn web() -> [Service; 2] {
    [
        Service::tcp(Who::Vip, 80).backend(Who::Pod, 8080),
        Service::udp(Who::Vip, 53).backend(Who::RemotePod, 5353),
    ]
}

fn syn() -> Packet {
    Packet::tcp(CLIENT, VIP, SYN)
}

#[test]
fn packets_of_others() {
    let pass = |name, packet, reason| Case::new(name, web()).send(Place::Uplink, packet, Untouched(reason));
    check([
        pass(
            "an address nobody balances",
            Packet::tcp(CLIENT, (Who::Stranger, 80), SYN),
            Reason::NotOurs,
        ),
        pass(
            "a backend, addressed directly",
            Packet::tcp(CLIENT, (Who::Pod, 8080), SYN),
            Reason::NotOurs,
        ),
        pass(
            "a port the VIP does not have",
            Packet::tcp(CLIENT, (Who::Vip, 81), SYN),
            Reason::NotOurs,
        ),
        pass(
            "the port, but another protocol",
            Packet::udp(CLIENT, VIP),
            Reason::NotOurs,
        ),
        pass(
            "a port of the node that is no nodePort",
            Packet::tcp(CLIENT, (Who::Node, 22), SYN),
            Reason::NotOurs,
        ),
        pass(
            "a frame for another machine",
            syn().hop(Mac::Client, Mac::Stranger),
            Reason::NotForUs,
        ),
        pass(
            "a ping to the VIP",
            Packet::echo_request(Who::Client, Who::Vip),
            Reason::OtherProtocol,
        ),
        pass(
            "GRE to the VIP",
            Packet::other_protocol(Who::Client, Who::Vip, 47),
            Reason::OtherProtocol,
        ),
        pass("a frame in a VLAN", syn().vlan(7), Reason::Vlan),
        pass(
            "the first fragment",
            Packet::udp(CLIENT, (Who::Vip, 53)).fragment(0, true),
            Reason::Fragment,
        ),
        pass(
            "a later fragment",
            Packet::udp(CLIENT, (Who::Vip, 53)).fragment(185, false),
            Reason::Fragment,
        ),
        Case::new("neither IPv4 nor IPv6", web()).send_spoiled(
            Place::Uplink,
            syn(),
            |frame, _| frame[12..14].copy_from_slice(&[0x08, 0x06]),
            Untouched(Reason::NotForUs),
        ),
        Case::new("what leaves the node begins nothing", web())
            .send(Place::Leaving, syn().leaving(), Untouched(Reason::NotOurs))
            .send(
                Place::IntoPod,
                syn().hop(Mac::PodDevice, Mac::Pod),
                Untouched(Reason::NotOurs),
            ),
    ]);
}

/// S44.
#[test]
fn tcp_without_a_syn_that_belongs_to_no_flow() {
    check(
        [
            ("an ACK", ACK),
            ("data", ACK | PSH),
            ("the end", ACK | FIN),
            ("a SYN-ACK", SYN | ACK),
            ("a RST", RST),
        ]
        .map(|(name, flags)| {
            Case::new(name, web())
                .send(
                    Place::Uplink,
                    Packet::tcp(CLIENT, VIP, flags),
                    Untouched(Reason::MidFlow),
                )
                .send(
                    Place::Pod,
                    Packet::tcp((Who::Pod, 40_000), VIP, flags).from_pod(),
                    Untouched(Reason::MidFlow),
                )
        }),
    );
}

#[test]
fn malformed_packets() {
    type Spoil = fn(&mut Vec<u8>, Family);
    let cases: [(&str, Packet, Spoil); 8] = [
        ("the frame ends before the ports", syn(), |frame, family| {
            frame.truncate(network_end(family) + 3)
        }),
        ("the frame ends in the TCP header", syn(), |frame, family| {
            frame.truncate(network_end(family) + 16)
        }),
        ("the header names another version", syn(), |frame, _| {
            frame[14] = 0x55
        }),
        (
            "the datagram claims to be longer than the frame",
            syn(),
            |frame, family| {
                let at = if family == Family::V4 { 16 } else { 18 };
                frame[at] = 7;
            },
        ),
        (
            "the datagram claims to end inside the TCP header",
            syn(),
            |frame, family| {
                let (at, len) = if family == Family::V4 {
                    (16, 20 + 12)
                } else {
                    (18, 12)
                };
                frame[at..at + 2].copy_from_slice(&u16::to_be_bytes(len));
            },
        ),
        (
            "the TCP header claims to be shorter than one",
            syn(),
            |frame, family| {
                frame[network_end(family) + 12] = 4 << 4;
            },
        ),
        (
            "the TCP header claims to be longer than the segment",
            syn(),
            |frame, family| {
                frame[network_end(family) + 12] = 15 << 4;
            },
        ),
        (
            "the datagram ends inside the UDP header",
            Packet::udp(CLIENT, (Who::Vip, 53)),
            |frame, family| {
                let (at, len) = if family == Family::V4 {
                    (16, 20 + 6)
                } else {
                    (18, 6)
                };
                frame[at..at + 2].copy_from_slice(&u16::to_be_bytes(len));
            },
        ),
    ];
    let cases = cases.map(|(name, packet, spoil)| {
        Case::new(name, web()).send_spoiled(Place::Uplink, packet, spoil, Untouched(Reason::Malformed))
    });
    let header_length = Case::new("the IPv4 header claims to be shorter than one", web())
        .only(Family::V4)
        .send_spoiled(
            Place::Uplink,
            syn(),
            |frame, _| frame[14] = 0x44,
            Untouched(Reason::Malformed),
        );
    check(cases.into_iter().chain([header_length]));
}

/// The kernel itself hands tc no frame that ends inside its network header.
#[test]
fn a_frame_may_end_anywhere() {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options::default()).expect("the kernel object");
    for family in Family::BOTH {
        datapath.reset(&bed).expect("empty maps");
        datapath.install(family, &web()).expect("services");
        let whole = syn().frame(family);
        for length in 14..whole.len() {
            let frame = &whole[..length];
            let tc = (length >= network_end(family)).then_some(Hook::UplinkIn);
            for hook in [Some(Hook::UplinkXdp), tc].into_iter().flatten() {
                let run = hook.run(&datapath, &bed, frame).expect("a run");
                let expected = Run {
                    verdict: Verdict::Pass,
                    frame: frame.to_vec(),
                };
                assert_eq!(run, expected, "{family:?}, {hook:?}, {length} bytes");
            }
        }
        assert_eq!(datapath.flows(family).expect("flows"), [], "{family:?}");
    }
}

#[test]
fn padding_behind_a_datagram_does_no_harm() {
    check([
        Case::new("a short packet in a frame of the least length", web()).send(
            Place::Uplink,
            syn().padded(12),
            ToStack(syn().padded(12).to(Who::Pod, 8080)),
        ),
    ]);
}

fn network_end(family: Family) -> usize {
    14 + if family == Family::V4 { 20 } else { 40 }
}
