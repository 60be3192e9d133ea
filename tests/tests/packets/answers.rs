//! Nobody there: answered at once, or dropped where the policy says so.

use anyhow::{Result, ensure};
use lab::packets::Outcome::{Answered, Dropped, ToStack, Untouched};
use lab::packets::case::Step;
use lab::packets::{
    Case, Datapath, Family, Mac, Options, Outcome, Packet, Place, Service, Who, check, check_with, flags,
};
use lb_common::reason::Reason;
use lb_common::service::flags::{INSIDE_DROP, OUTSIDE_DROP};

use flags::{RST, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const POD: (Who, u16) = (Who::Pod, 40_000);

/// The most of a packet that an ICMP error quotes.
const QUOTE: usize = 128;

fn nobody() -> [Service; 2] {
    [Service::tcp(Who::Vip, 80), Service::udp(Who::Vip, 53)]
}

fn reset(packet: &Packet) -> Outcome {
    Answered(packet.reset(), Reason::Rejected)
}

/// The answer to a datagram: it quotes bytes of the family, so there is one case a family.
fn unreachable_cases(
    name: &'static str,
    services: impl Fn() -> Vec<Service>,
    at: Place,
    packet: &Packet,
) -> Vec<Case> {
    Family::BOTH
        .map(|family| {
            let mut quoted = packet.ip_packet(family);
            quoted.truncate(QUOTE.min(quoted.len() & !3));
            Case::new(name, services()).only(family).send(
                at,
                packet.clone(),
                Answered(packet.port_unreachable(&quoted), Reason::Rejected),
            )
        })
        .into()
}

/// S21.
#[test]
fn a_service_without_endpoints_answers_at_once() {
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN);
    let from_pod = Packet::tcp(POD, (Who::Vip, 80), SYN).from_pod();
    let datagram = Packet::udp(CLIENT, (Who::Vip, 53));
    let mut cases = vec![
        Case::new("a SYN gets a RST that acknowledges it", nobody()).send(
            Place::Uplink,
            syn.clone(),
            reset(&syn),
        ),
        Case::new("so does a pod's", nobody()).send(Place::Pod, from_pod.clone(), reset(&from_pod)),
        Case::new("so does a SYN with data and extra headers", nobody()).send(
            Place::Uplink,
            syn.clone().payload(b"early data").with_extra_headers(),
            reset(&syn.clone().payload(b"early data")),
        ),
        Case::new("a RST is no connection and gets nothing", nobody()).send(
            Place::Uplink,
            Packet::tcp(CLIENT, (Who::Vip, 80), RST),
            Untouched(Reason::MidFlow),
        ),
        Case::new("nobody answers to a multicast source", nobody()).send(
            Place::Uplink,
            Packet::udp((Who::Multicast, 40_000), (Who::Vip, 53)),
            Dropped(Reason::RejectedSilently),
        ),
    ];
    let services = || nobody().to_vec();
    cases.extend(unreachable_cases(
        "a datagram gets port unreachable",
        services,
        Place::Uplink,
        &datagram,
    ));
    for (name, length) in [
        ("an even datagram", 12),
        ("one as long as the quote", QUOTE),
        ("one of full length", 1400),
    ] {
        let datagram = datagram.clone().payload(&vec![0x5a; length]);
        cases.extend(unreachable_cases(name, services, Place::Uplink, &datagram));
    }
    cases.extend(unreachable_cases(
        "one with extra headers",
        services,
        Place::Uplink,
        &datagram.clone().with_extra_headers(),
    ));
    cases.extend(unreachable_cases(
        "a pod's datagram",
        services,
        Place::Pod,
        &Packet::udp(POD, (Who::Vip, 53)).from_pod(),
    ));
    check(cases);
}

/// S22.
#[test]
fn a_local_policy_with_endpoints_elsewhere_drops() {
    let service = |flags| [Service::tcp(Who::Vip, 80).flags(flags)];
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN);
    let from_pod = Packet::tcp(POD, (Who::Vip, 80), SYN).from_pod();
    check([
        Case::new("outside drops, inside rejects", service(OUTSIDE_DROP))
            .send(Place::Uplink, syn.clone(), Dropped(Reason::NoLocalEndpoints))
            .send(Place::Pod, from_pod.clone(), reset(&from_pod)),
        Case::new("inside drops, outside rejects", service(INSIDE_DROP))
            .send(Place::Uplink, syn.clone(), reset(&syn))
            .send(Place::Pod, from_pod.clone(), Dropped(Reason::NoLocalEndpoints)),
    ]);
}

/// S36.
#[test]
fn datagrams_that_came_too_early_leave_nothing_behind() {
    fn nothing(datapath: &mut Datapath, family: Family) -> Result<()> {
        let flows = datapath.flows(family)?;
        ensure!(flows.is_empty(), "left behind: {flows:?}");
        Ok(())
    }
    fn closed(datapath: &mut Datapath, _: Family) -> Result<()> {
        datapath.record(1, |record| record.outside.len = 0)
    }
    fn opened(datapath: &mut Datapath, _: Family) -> Result<()> {
        datapath.record(1, |record| record.outside.len = 1)
    }
    let dns = || Service::udp(Who::Vip, 53).backend(Who::Pod, 5353);
    let datagram = Packet::udp(CLIENT, (Who::Vip, 53));
    let served = ToStack(datagram.clone().to(Who::Pod, 5353));
    let mut cases = unreachable_cases("refused", || vec![dns()], Place::Uplink, &datagram);
    for case in &mut cases {
        case.steps.insert(0, Step::Do("no endpoints", closed));
    }
    cases.extend([
        Case::new("dropped", [dns().flags(OUTSIDE_DROP)])
            .then("endpoints elsewhere only", closed)
            .send(Place::Uplink, datagram.clone(), Dropped(Reason::NoLocalEndpoints)),
        Case::new("before the service", [])
            .send(Place::Uplink, datagram.clone(), Untouched(Reason::NotOurs))
            .then("it comes", |datapath, family| {
                datapath.install(family, &[Service::udp(Who::Vip, 53).backend(Who::Pod, 5353)])
            }),
    ]);
    check(cases.into_iter().map(|case| {
        case.then("the same sender", nothing)
            .then("an endpoint comes", opened)
            .send(Place::Uplink, datagram.clone(), served.clone())
    }));
}

/// S24.
#[test]
fn a_port_that_a_cluster_ip_does_not_have_is_rejected() {
    let services = || {
        vec![
            Service::tcp(Who::ClusterIp, 80).backend(Who::Pod, 8080),
            Service::unknown_ports(Who::ClusterIp),
        ]
    };
    let syn = Packet::tcp(POD, (Who::ClusterIp, 81), SYN).from_pod();
    let outside = Packet::tcp(CLIENT, (Who::ClusterIp, 81), SYN);
    let datagram = Packet::udp(POD, (Who::ClusterIp, 80)).from_pod();
    let mut cases = vec![
        Case::new("a pod's SYN", services()).send(Place::Pod, syn.clone(), reset(&syn)),
        Case::new("an outside client's SYN", services()).send(
            Place::Uplink,
            outside.clone(),
            reset(&outside),
        ),
        Case::new("a ping is the host's affair", services()).send(
            Place::Uplink,
            Packet::echo_request(Who::Client, Who::ClusterIp),
            Untouched(Reason::OtherProtocol),
        ),
    ];
    cases.extend(unreachable_cases(
        "a pod's datagram",
        services,
        Place::Pod,
        &datagram,
    ));
    check(cases);
}

#[test]
fn answers_are_rationed() {
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN);
    let other = Packet::tcp((Who::Client, 40_001), (Who::Vip, 80), SYN);
    check_with(
        Options {
            rejects_per_second: 2,
            ..Options::default()
        },
        [Case::new("two a second, and no third", nobody())
            .send(Place::Uplink, syn.clone(), reset(&syn))
            .send(Place::Uplink, other.clone(), reset(&other))
            .send(Place::Uplink, syn.clone(), Dropped(Reason::RejectRate))],
    );
}

#[test]
fn an_answer_goes_back_to_whom_the_frame_came_from() {
    let syn = Packet::tcp(CLIENT, (Who::Vip, 80), SYN).hop(Mac::RemoteNode, Mac::Uplink);
    check([Case::new("through a router", nobody()).send(Place::Uplink, syn.clone(), reset(&syn))]);
}
