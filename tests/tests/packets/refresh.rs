//! What the first packet after a second does for its flow: the stamp, the other half, the next hop.

use anyhow::{Context, Result, ensure};
use lab::packets::Outcome::{Answered, SentBack, SentSomehow, ToStack};
use lab::packets::{
    CHOSEN, Case, Datapath, Family, Flow, Keep, Mac, Outcome, Packet, Place, Service, State, Who, check,
    flags,
};
use lb_common::reason::Reason;

use flags::{ACK, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);

/// Long ago in a test, and not long enough for any flow to end.
const SECONDS: u32 = 20;

fn tcp(vip: Who, flags: u8) -> Packet {
    Packet::tcp(CLIENT, (vip, 80), flags)
}

fn to_pod(packet: Packet) -> Outcome {
    ToStack(packet.to(Who::Pod, 8080))
}

fn remote(packet: Packet) -> Packet {
    packet
        .from(Who::Node, CHOSEN)
        .to(Who::RemotePod, 8080)
        .hop(Mac::Uplink, Mac::RemoteNode)
        .forwarded()
}

fn age(datapath: &mut Datapath, family: Family) -> Result<()> {
    datapath.age_flows(family, SECONDS)
}

fn forget_replies(datapath: &mut Datapath, family: Family) -> Result<()> {
    datapath.each_flow(
        family,
        |flow| if flow.reply { Keep::Not } else { Keep::Unchanged },
    )
}

fn forget_requests(datapath: &mut Datapath, family: Family) -> Result<()> {
    datapath.each_flow(
        family,
        |flow| if flow.reply { Keep::Unchanged } else { Keep::Not },
    )
}

fn both_are_fresh(datapath: &mut Datapath, family: Family) -> Result<()> {
    let flows = datapath.flows(family)?;
    ensure!(flows.len() == 2, "{} entries: {flows:#?}", flows.len());
    let [a, b] = [&flows[0], &flows[1]];
    ensure!(a.reply != b.reply, "both are of one direction: {flows:#?}");
    let apart = a.state.last.abs_diff(b.state.last);
    // A tick is at most 10 ms; the story takes a few of them, the age it was given is millions.
    ensure!(apart < 1000, "stamps {apart} ticks apart");
    ensure!(
        (a.src, a.dst) == (b.new_dst, b.new_src),
        "not the halves of one flow: {flows:#?}"
    );
    ensure!(
        (b.src, b.dst) == (a.new_dst, a.new_src),
        "not the halves of one flow: {flows:#?}"
    );
    Ok(())
}

#[test]
fn the_stamp_and_the_other_half() {
    let service = || [Service::tcp(Who::Vip, 80).backend(Who::Pod, 8080)];
    let reply = |flags| Packet::tcp((Who::Pod, 8080), CLIENT, flags).leaving();
    let from_vip = |packet: Packet| ToStack(packet.from(Who::Vip, 80));
    let begun =
        |name| Case::new(name, service()).send(Place::Uplink, tcp(Who::Vip, SYN), to_pod(tcp(Who::Vip, SYN)));
    check([
        begun("both halves are touched by a packet of one")
            .then("time passes", age)
            .send(Place::Uplink, tcp(Who::Vip, ACK), to_pod(tcp(Who::Vip, ACK)))
            .then("both are fresh", both_are_fresh),
        begun("also by a packet of the other")
            .then("time passes", age)
            .send(Place::Leaving, reply(SYN | ACK), from_vip(reply(SYN | ACK)))
            .then("both are fresh", both_are_fresh),
        begun("a lost reply entry is made again")
            .then("time passes", age)
            .then("the reply's entry is lost", forget_replies)
            .send(Place::Uplink, tcp(Who::Vip, ACK), to_pod(tcp(Who::Vip, ACK)))
            .then("both are fresh", both_are_fresh)
            .send(Place::Leaving, reply(ACK), from_vip(reply(ACK))),
        begun("a lost request entry is made again")
            .then("time passes", age)
            .then("the request's entry is lost", forget_requests)
            .send(Place::Leaving, reply(SYN | ACK), from_vip(reply(SYN | ACK)))
            .then("both are fresh", both_are_fresh)
            .send(Place::Uplink, tcp(Who::Vip, ACK), to_pod(tcp(Who::Vip, ACK))),
        begun("each half learns what the other has shown")
            .send(Place::Leaving, reply(SYN | ACK), from_vip(reply(SYN | ACK)))
            .send(Place::Uplink, tcp(Who::Vip, ACK), to_pod(tcp(Who::Vip, ACK)))
            .then("both know of both", |datapath, family| {
                for Flow {
                    state: State { own, peer, .. },
                    reply,
                    ..
                } in datapath.flows(family)?
                {
                    let open = lb_common::lifetime::seen::OPEN;
                    ensure!(
                        own & peer & open != 0,
                        "reply {reply}: own {own:#b}, peer {peer:#b}"
                    );
                }
                Ok(())
            }),
    ]);
}

#[test]
fn a_place_that_has_become_somebody_elses_ends_the_flow() {
    let service = Service::tcp(Who::Vip, 80)
        .also_at(Who::OtherVip, 80)
        .backend(Who::Pod, 8080);
    check([Case::new(
        "the reply's tuple belongs to a connection through the other VIP",
        [service],
    )
    .send(Place::Uplink, tcp(Who::Vip, SYN), to_pod(tcp(Who::Vip, SYN)))
    .then("time passes", age)
    .then("the reply's entry is lost", forget_replies)
    .send(
        Place::Uplink,
        tcp(Who::OtherVip, SYN),
        to_pod(tcp(Who::OtherVip, SYN)),
    )
    .send(
        Place::Uplink,
        tcp(Who::Vip, ACK),
        Answered(tcp(Who::Vip, ACK).reset(), Reason::EndpointGone),
    )
    .send(
        Place::Uplink,
        tcp(Who::OtherVip, ACK),
        to_pod(tcp(Who::OtherVip, ACK)),
    )]);
}

/// What may begin a connection begins one: it must not go on through the entry of the flow that is over, whose replies would be
/// given to the other connection.
#[test]
fn a_flow_whose_place_has_become_somebody_elses_begins_anew() {
    let service = |service: Service| [service.also_at(Who::OtherVip, 80).backend(Who::Pod, 8080)];
    let story = |name, services, packet: fn(Who) -> Packet, reply: Packet| {
        let elsewhere = packet(Who::Vip).from(Who::Client, CHOSEN);
        Case::new(name, services)
            .send(Place::Uplink, packet(Who::Vip), to_pod(packet(Who::Vip)))
            .then("time passes", age)
            .then("the reply's entry is lost", forget_replies)
            .send(
                Place::Uplink,
                packet(Who::OtherVip),
                to_pod(packet(Who::OtherVip)),
            )
            .send(Place::Uplink, packet(Who::Vip), to_pod(elsewhere))
            .send(
                Place::Leaving,
                reply.clone().to(Who::Client, CHOSEN),
                ToStack(reply.clone().from(Who::Vip, 80)),
            )
            .send(
                Place::Leaving,
                reply.clone(),
                ToStack(reply.from(Who::OtherVip, 80)),
            )
    };
    check([
        story(
            "a datagram",
            service(Service::udp(Who::Vip, 80)),
            |vip| Packet::udp(CLIENT, (vip, 80)),
            Packet::udp((Who::Pod, 8080), CLIENT).leaving(),
        ),
        story(
            "a SYN",
            service(Service::tcp(Who::Vip, 80)),
            |vip| tcp(vip, SYN),
            Packet::tcp((Who::Pod, 8080), CLIENT, SYN | ACK).leaving(),
        ),
    ]);
}

#[test]
fn the_next_hop_is_looked_up_again() {
    fn moved(datapath: &mut Datapath, family: Family) -> Result<()> {
        let flows = datapath.flows(family)?;
        let request = flows
            .iter()
            .find(|flow| !flow.reply)
            .context("no request entry")?;
        ensure!(request.ifindex != 0, "{request:?}");
        Ok(())
    }
    let service = [Service::tcp(Who::Vip, 80).backend(Who::RemotePod, 8080)];
    check([
        Case::new("a flow goes on over a refresh, by whichever hook is due", service)
            .send(
                Place::Uplink,
                tcp(Who::Vip, SYN),
                SentBack(remote(tcp(Who::Vip, SYN))),
            )
            .then("time passes", age)
            .send(
                Place::Uplink,
                tcp(Who::Vip, ACK),
                SentSomehow(remote(tcp(Who::Vip, ACK))),
            )
            .then("it still has its way", moved)
            .then("both are fresh", both_are_fresh),
    ]);
}
