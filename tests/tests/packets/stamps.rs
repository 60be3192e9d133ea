//! Stamps of other CPUs: one whose packet came a tick later may have stored its stamp already.

use lab::packets::Outcome::ToStack;
use lab::packets::{
    Case, Datapath, Family, HZ, Hook, Keep, Options, Packet, Place, Service, State, Testbed, Verdict, Who,
    check, flags,
};

use flags::{ACK, SYN};

/// Ticks that no test outlasts.
const AHEAD: u32 = 10_000;

fn syn(n: u8) -> Packet {
    Packet::tcp((Who::Crowd(n), 40_000), (Who::Vip, 80), SYN)
}

/// One bucket of four entries, and three connections.
#[test]
fn the_flow_seen_last_does_not_give_way() {
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options {
        flow_buckets: 1,
        ..Options::default()
    })
    .expect("the kernel object");
    for family in Family::BOTH {
        datapath.reset(&bed).expect("empty maps");
        let service = Service::tcp(Who::Vip, 80).backend(Who::Pod, 8080);
        datapath.install(family, &[service]).expect("a service");
        let begin = |datapath: &Datapath, n| {
            let run = Hook::UplinkIn
                .run(datapath, &bed, &syn(n).frame(family))
                .expect("a run");
            assert_eq!(run.verdict, Verdict::Pass, "{family:?}: client {n}");
        };
        begin(&datapath, 1);
        begin(&datapath, 2);
        let ahead = Who::Crowd(1).ip(family);
        datapath
            .each_flow(family, |flow| {
                let of_first = flow.src.ip() == ahead || flow.dst.ip() == ahead;
                let last = if of_first {
                    flow.state.last.wrapping_add(AHEAD)
                } else {
                    flow.state.last.wrapping_sub(HZ)
                };
                Keep::With(State { last, ..flow.state })
            })
            .expect("stamps");
        begin(&datapath, 3);
        let mut clients: Vec<_> = datapath
            .flows(family)
            .expect("flows")
            .iter()
            .filter(|flow| !flow.reply)
            .map(|flow| flow.src.ip())
            .collect();
        clients.sort();
        assert_eq!(clients, [1, 3].map(|n| Who::Crowd(n).ip(family)), "{family:?}");
    }
}

/// The older stamp would move the flow's age back, and XDP would leave the packet to tc for a neighbour that owes nothing.
#[test]
fn a_flow_seen_a_tick_ahead_is_not_due_for_a_refresh() {
    let ack = Packet::tcp((Who::Crowd(1), 40_000), (Who::Vip, 80), ACK);
    let to_pod = |packet: &Packet| ToStack(packet.clone().to(Who::Pod, 8080));
    check([Case::new(
        "its stamp stays",
        [Service::tcp(Who::Vip, 80).backend(Who::Pod, 8080)],
    )
    .send(Place::Uplink, syn(1), to_pod(&syn(1)))
    .send(Place::Uplink, ack.clone(), to_pod(&ack))
    .then("another CPU stores its stamp", |datapath, family| {
        datapath.each_flow(family, |flow| match flow.reply {
            true => Keep::Unchanged,
            false => Keep::With(State {
                last: flow.state.last.wrapping_add(AHEAD),
                ..flow.state
            }),
        })
    })
    .send(Place::Uplink, ack.clone(), to_pod(&ack))
    .then("it is still ahead", |datapath, family| {
        // A refresh would have given both halves one stamp.
        let flows = datapath.flows(family)?;
        let stamps: Vec<_> = flows.iter().map(|flow| flow.state.last).collect();
        anyhow::ensure!(
            stamps.len() == 2 && stamps[0].abs_diff(stamps[1]) > AHEAD / 2,
            "{flows:#?}"
        );
        Ok(())
    })]);
}

#[test]
fn affinity_remembers_what_another_cpu_has_just_stored() {
    fn one(datapath: &mut Datapath, offset: u32) -> anyhow::Result<()> {
        datapath.record(1, |record| {
            record.outside.offset = offset;
            record.outside.len = 1;
        })
    }
    let service = Service::tcp(Who::Vip, 80)
        .backend(Who::Pod, 8080)
        .backend(Who::OtherPod, 8080)
        .affinity(10);
    let again = syn(1).from(Who::Crowd(1), 40_001);
    // Slots for clients outside stand behind those for clients inside.
    check([
        Case::new("a stamp ahead of this CPU's clock is no age of years", [service])
            .then("the choice falls on the first", |datapath, _| one(datapath, 2))
            .send(Place::Uplink, syn(1), ToStack(syn(1).to(Who::Pod, 8080)))
            .then("the choice falls on the second", |datapath, _| one(datapath, 3))
            .then("the stamp is ahead", |datapath, _| {
                datapath.affinity(|value| value.last_used = value.last_used.wrapping_add(AHEAD))
            })
            .send(Place::Uplink, again.clone(), ToStack(again.to(Who::Pod, 8080))),
    ]);
}
