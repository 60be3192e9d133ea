//! A flow's validity, age and end.

use anyhow::Result;
use lab::packets::Outcome::{Answered, Dropped, SentBack, ToStack};
use lab::packets::{
    CHOSEN, Case, Datapath, Family, Keep, Mac, Outcome, Packet, Place, Service, State, Who, check, flags,
};
use lb_common::reason::Reason;

use flags::{ACK, FIN, PSH, RST, SYN};

const CLIENT: (Who, u16) = (Who::Client, 40_000);
const VIP: (Who, u16) = (Who::Vip, 80);

/// A service that sends outside clients to the first of two pods, until [`switch`].
fn two_pods() -> [Service; 2] {
    let service = |service: Service| {
        let all = [(Who::Pod, 8080), (Who::OtherPod, 8080)];
        all.iter()
            .fold(service, |service, (who, port)| service.backend(*who, *port))
    };
    [
        service(Service::tcp(Who::Vip, 80)),
        service(Service::udp(Who::Vip, 80)),
    ]
}

/// New connections go to the first pod alone.
fn narrow(datapath: &mut Datapath, _: Family) -> Result<()> {
    (1..=2).try_for_each(|record| datapath.record(record, |record| record.outside.len = 1))
}

/// New connections go to the second pod alone, as after a change of slots.
fn switch(datapath: &mut Datapath, _: Family) -> Result<()> {
    (1..=2).try_for_each(|record| datapath.record(record, |record| record.outside.offset += 1))
}

/// The first pod is gone: slots first, then the generation.
fn kill(datapath: &mut Datapath, family: Family) -> Result<()> {
    switch(datapath, family)?;
    [1, 3]
        .into_iter()
        .try_for_each(|index| datapath.backend(index, |backend| backend.generation += 1))
}

/// The generations of both first pods came round to an even number: somebody else has the index.
fn revive(datapath: &mut Datapath, _: Family) -> Result<()> {
    [1, 3]
        .into_iter()
        .try_for_each(|index| datapath.backend(index, |backend| backend.generation += 1))
}

fn story(name: &'static str) -> Case {
    Case::new(name, two_pods()).then("the first pod alone is in the list", narrow)
}

fn tcp(flags: u8) -> Packet {
    Packet::tcp(CLIENT, VIP, flags)
}

fn udp() -> Packet {
    Packet::udp(CLIENT, VIP)
}

fn reply(who: Who, flags: u8) -> Packet {
    Packet::tcp((who, 8080), CLIENT, flags).leaving()
}

fn to(who: Who, packet: Packet) -> Outcome {
    ToStack(packet.to(who, 8080))
}

fn from_vip(packet: Packet) -> Outcome {
    ToStack(packet.from(Who::Vip, 80))
}

/// A TCP connection to the first pod, open on both sides.
fn connected(name: &'static str) -> Case {
    story(name)
        .send(Place::Uplink, tcp(SYN), to(Who::Pod, tcp(SYN)))
        .send(
            Place::Leaving,
            reply(Who::Pod, SYN | ACK),
            from_vip(reply(Who::Pod, SYN | ACK)),
        )
        .send(Place::Uplink, tcp(ACK), to(Who::Pod, tcp(ACK)))
        .send(
            Place::Leaving,
            reply(Who::Pod, ACK),
            from_vip(reply(Who::Pod, ACK)),
        )
}

/// Lets seconds pass. What is due after a second is done by the next packet.
macro_rules! pass {
    ($case:expr, $seconds:literal) => {
        $case.then(concat!(stringify!($seconds), " s pass"), |datapath, family| {
            datapath.age_flows(family, $seconds)
        })
    };
}

/// S35, S38.
#[test]
fn flows_outlive_changes_of_the_list() {
    check([
        connected("a connection keeps its backend when new ones go elsewhere")
            .then("the list changes", switch)
            .send(
                Place::Uplink,
                tcp(ACK | PSH).payload(b"x"),
                to(Who::Pod, tcp(ACK | PSH).payload(b"x")),
            )
            .send(Place::Uplink, tcp(SYN), to(Who::Pod, tcp(SYN)))
            .send(
                Place::Uplink,
                tcp(SYN).from(Who::Client, 40_001),
                to(Who::OtherPod, tcp(SYN).from(Who::Client, 40_001)),
            ),
        story("a datagram's flow does too")
            .send(Place::Uplink, udp(), to(Who::Pod, udp()))
            .then("the list changes", switch)
            .send(Place::Uplink, udp(), to(Who::Pod, udp())),
    ]);
}

/// S35, S37.
#[test]
fn flows_of_a_dead_backend() {
    let reset = |packet: &Packet| Answered(packet.reset(), Reason::EndpointGone);
    check([
        story("datagrams are balanced anew (S35)")
            .send(Place::Uplink, udp(), to(Who::Pod, udp()))
            .then("the first pod dies", kill)
            .send(Place::Uplink, udp(), to(Who::OtherPod, udp()))
            .send(Place::Uplink, udp(), to(Who::OtherPod, udp())),
        connected("a segment is answered with RST (S37)")
            .then("the first pod dies", kill)
            .send(
                Place::Uplink,
                tcp(ACK | PSH).payload(b"x"),
                reset(&tcp(ACK | PSH).payload(b"x")),
            )
            .send(Place::Uplink, tcp(ACK | FIN), reset(&tcp(ACK | FIN))),
        connected("a RST is answered with nothing")
            .then("the first pod dies", kill)
            .send(Place::Uplink, tcp(RST), Dropped(Reason::RejectedSilently)),
        connected("a SYN begins a connection to somebody else")
            .then("the first pod dies", kill)
            .send(Place::Uplink, tcp(SYN), to(Who::OtherPod, tcp(SYN)))
            .send(
                Place::Leaving,
                reply(Who::OtherPod, SYN | ACK),
                from_vip(reply(Who::OtherPod, SYN | ACK)),
            )
            .send(Place::Uplink, tcp(ACK), to(Who::OtherPod, tcp(ACK))),
        connected("what it still sends goes nowhere")
            .then("the first pod dies", kill)
            .send(Place::Leaving, reply(Who::Pod, ACK), Dropped(Reason::StaleReply)),
        connected("its successor in the index does not inherit them")
            .then("the first pod dies", kill)
            .then("another one gets its index", revive)
            .send(Place::Uplink, tcp(ACK), reset(&tcp(ACK))),
        story("a choice that finds only dead backends is dropped, never sent to one")
            .then(
                "the first pod is dead, and the list still holds it",
                |datapath, _| datapath.backend(1, |backend| backend.generation += 1),
            )
            .send(Place::Uplink, tcp(SYN), Dropped(Reason::NoLiveBackend)),
    ]);
}

#[test]
fn idle_flows_end_by_what_both_sides_have_shown() {
    let answered = |case: Case| {
        let reply = Packet::udp((Who::Pod, 8080), CLIENT).leaving();
        case.send(Place::Uplink, udp(), to(Who::Pod, udp()))
            .send(Place::Leaving, reply.clone(), from_vip(reply))
            .send(Place::Uplink, udp(), to(Who::Pod, udp()))
    };
    check([
        pass!(
            story("unanswered UDP lives for 30 s").send(Place::Uplink, udp(), to(Who::Pod, udp())),
            29
        )
        .then("the list changes", switch)
        .send(Place::Uplink, udp(), to(Who::Pod, udp())),
        pass!(
            story("and no longer").send(Place::Uplink, udp(), to(Who::Pod, udp())),
            31
        )
        .then("the list changes", switch)
        .send(Place::Uplink, udp(), to(Who::OtherPod, udp())),
        pass!(
            // The second packet after a second learns what the reply's entry has seen.
            pass!(answered(story("answered UDP lives for 120 s")), 2).send(
                Place::Uplink,
                udp(),
                to(Who::Pod, udp())
            ),
            119
        )
        .then("the list changes", switch)
        .send(Place::Uplink, udp(), to(Who::Pod, udp())),
        pass!(
            pass!(answered(story("and no longer than that")), 2).send(
                Place::Uplink,
                udp(),
                to(Who::Pod, udp())
            ),
            121
        )
        .then("the list changes", switch)
        .send(Place::Uplink, udp(), to(Who::OtherPod, udp())),
        pass!(
            story("a SYN without an answer is forgotten after a minute").send(
                Place::Uplink,
                tcp(SYN),
                to(Who::Pod, tcp(SYN))
            ),
            61
        )
        .then("the list changes", switch)
        .send(Place::Uplink, tcp(SYN), to(Who::OtherPod, tcp(SYN))),
        pass!(
            connected("an established connection may be silent for long"),
            3500
        )
        .then("the list changes", switch)
        .send(Place::Uplink, tcp(ACK), to(Who::Pod, tcp(ACK))),
        pass!(
            connected("a closing one may not")
                .send(Place::Uplink, tcp(ACK | FIN), to(Who::Pod, tcp(ACK | FIN)))
                .send(
                    Place::Leaving,
                    reply(Who::Pod, ACK | FIN),
                    from_vip(reply(Who::Pod, ACK | FIN))
                ),
            121
        )
        .send(Place::Uplink, tcp(ACK), Outcome::Untouched(Reason::MidFlow)),
        pass!(
            connected("a reset one even less").send(Place::Uplink, tcp(RST), to(Who::Pod, tcp(RST))),
            11
        )
        .send(Place::Uplink, tcp(ACK), Outcome::Untouched(Reason::MidFlow)),
    ]);
}

/// S38.
#[test]
fn a_syn_on_a_closing_tuple_is_a_new_connection() {
    let closing = |name| {
        connected(name)
            .send(Place::Uplink, tcp(ACK | FIN), to(Who::Pod, tcp(ACK | FIN)))
            .send(
                Place::Leaving,
                reply(Who::Pod, ACK | FIN),
                from_vip(reply(Who::Pod, ACK | FIN)),
            )
            .send(Place::Uplink, tcp(ACK), to(Who::Pod, tcp(ACK)))
    };
    check([
        closing("it is balanced anew (S38)")
            .then("the list changes", switch)
            .send(Place::Uplink, tcp(SYN), to(Who::OtherPod, tcp(SYN)))
            .send(
                Place::Leaving,
                reply(Who::OtherPod, SYN | ACK),
                from_vip(reply(Who::OtherPod, SYN | ACK)),
            )
            .send(Place::Uplink, tcp(ACK), to(Who::OtherPod, tcp(ACK))),
        closing("and may get the same backend again")
            .send(Place::Uplink, tcp(SYN), to(Who::Pod, tcp(SYN)))
            .send(
                Place::Leaving,
                reply(Who::Pod, SYN | ACK),
                from_vip(reply(Who::Pod, SYN | ACK)),
            )
            .then("the list changes", switch)
            .send(Place::Uplink, tcp(ACK), to(Who::Pod, tcp(ACK))),
        connected("after a RST of the backend too")
            .send(
                Place::Leaving,
                reply(Who::Pod, RST | ACK),
                from_vip(reply(Who::Pod, RST | ACK)),
            )
            .then("the list changes", switch)
            .send(Place::Uplink, tcp(SYN), to(Who::OtherPod, tcp(SYN))),
    ]);
}

#[test]
fn an_entry_that_is_being_written_is_never_taken_for_a_miss() {
    fn write(datapath: &mut Datapath, family: Family) -> Result<()> {
        datapath.each_flow(family, |flow| {
            Keep::With(State {
                seq: flow.state.seq | 1,
                ..flow.state
            })
        })
    }
    let remote = Service::tcp(Who::Vip, 80).backend(Who::RemotePod, 8080);
    check([
        connected("a segment waits for its writer, and is dropped when that takes too long")
            .then("somebody begins to write all entries", write)
            .send(Place::Uplink, tcp(ACK), Dropped(Reason::Busy))
            .send(Place::Leaving, reply(Who::Pod, ACK), Dropped(Reason::Busy)),
        story("a SYN does not begin a second flow")
            .send(Place::Uplink, tcp(SYN), to(Who::Pod, tcp(SYN)))
            .then("the list changes", switch)
            .then("somebody begins to write all entries", write)
            .send(Place::Uplink, tcp(SYN), Dropped(Reason::Busy)),
        Case::new("a segment towards another node too", [remote])
            .send(
                Place::Uplink,
                tcp(SYN),
                SentBack(
                    tcp(SYN)
                        .from(Who::Node, CHOSEN)
                        .to(Who::RemotePod, 8080)
                        .hop(Mac::Uplink, Mac::RemoteNode)
                        .forwarded(),
                ),
            )
            .then("somebody begins to write all entries", write)
            .send(Place::Uplink, tcp(ACK), Dropped(Reason::Busy)),
    ]);
}
