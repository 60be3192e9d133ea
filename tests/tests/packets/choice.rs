//! Which backend a new connection gets.

use std::collections::BTreeMap;

use anyhow::Result;
use lab::packets::Outcome::ToStack;
use lab::packets::{
    Case, Datapath, Family, HZ, Hook, Options, Outcome, Packet, Place, Service, Testbed, Verdict, Who, check,
    flags,
};

use flags::SYN;

/// Affinity for ten seconds; outside clients are sent to the first pod, until [`switch`].
fn sticky() -> Service {
    Service::tcp(Who::Vip, 80)
        .also_at(Who::OtherVip, 80)
        .backend(Who::Pod, 8080)
        .backend(Who::OtherPod, 8080)
        .affinity(10)
}

fn narrow(datapath: &mut Datapath, _: Family) -> Result<()> {
    datapath.record(1, |record| record.outside.len = 1)
}

fn switch(datapath: &mut Datapath, _: Family) -> Result<()> {
    datapath.record(1, |record| record.outside.offset += 1)
}

fn syn(client: (Who, u16)) -> Packet {
    Packet::tcp(client, (Who::Vip, 80), SYN)
}

fn to(who: Who, packet: Packet) -> Outcome {
    ToStack(packet.to(who, 8080))
}

/// A client that has been sent to the first pod, while others are now sent to the second.
fn remembered(name: &'static str) -> Case {
    let first = syn((Who::Client, 40_000));
    Case::new(name, [sticky()])
        .then("the first pod alone is in the list", narrow)
        .send(Place::Uplink, first.clone(), to(Who::Pod, first))
        .then("the choice falls on the second", switch)
}

/// S32, S33.
#[test]
fn a_client_keeps_its_backend_while_that_is_in_the_list() {
    let again = syn((Who::Client, 40_001));
    let third = syn((Who::Client, 40_002));
    let other = syn((Who::Crowd(1), 40_000));
    let other_vip = again.clone().to(Who::OtherVip, 80);
    check([
        remembered("the same client gets the same backend, another one does not (S32)")
            .send(Place::Uplink, again.clone(), to(Who::Pod, again.clone()))
            .send(Place::Uplink, other.clone(), to(Who::OtherPod, other.clone())),
        remembered("whatever address of the service it uses").send(
            Place::Uplink,
            other_vip.clone(),
            to(Who::Pod, other_vip.clone()),
        ),
        remembered("a backend that has left the list and returned is forgotten (S33)")
            .then("it leaves and returns", |datapath, _| {
                datapath.backend(1, |backend| backend.epoch += 1)
            })
            .send(Place::Uplink, again.clone(), to(Who::OtherPod, again.clone()))
            .send(Place::Uplink, third.clone(), to(Who::OtherPod, third.clone())),
        remembered("a backend that is not in this path's list is not used (S33)")
            .then("it leaves the list of outside clients", |datapath, _| {
                datapath.backend(1, |backend| backend.flags &= !lb_common::backend::IN_CLUSTER_LIST)
            })
            .send(Place::Uplink, again.clone(), to(Who::OtherPod, again.clone())),
        remembered("a dead backend is not used")
            .then("it dies", |datapath, _| {
                datapath.backend(1, |backend| backend.generation += 1)
            })
            .send(Place::Uplink, again.clone(), to(Who::OtherPod, again.clone())),
        remembered("a client that was away for longer than the timeout is balanced anew")
            .then("11 s pass", |datapath, _| {
                datapath.affinity(|value| value.last_used = value.last_used.wrapping_sub(11 * HZ))
            })
            .send(Place::Uplink, again.clone(), to(Who::OtherPod, again.clone())),
        remembered("each new connection refreshes the memory")
            .then("9 s pass", |datapath, _| {
                datapath.affinity(|value| value.last_used = value.last_used.wrapping_sub(9 * HZ))
            })
            .send(Place::Uplink, again.clone(), to(Who::Pod, again.clone()))
            .then("9 s pass", |datapath, _| {
                datapath.affinity(|value| value.last_used = value.last_used.wrapping_sub(9 * HZ))
            })
            .send(Place::Uplink, third.clone(), to(Who::Pod, third)),
    ]);
}

/// S34: clients are told apart by their own addresses, whatever node they are on; how long a service remembers is its own affair.
#[test]
fn nobody_shares_an_affinity() {
    let pod = |n, port| syn((Who::Crowd(n), port)).from_pod();
    let other_service = syn((Who::Client, 40_001)).to(Who::ClusterIp, 80);
    check([
        Case::new("two pods behind one node", [sticky()])
            .then("the first pod alone is in the list", |datapath, _| {
                datapath.record(1, |record| record.inside.len = 1)
            })
            .send(Place::Pod, pod(1, 40_000), to(Who::Pod, pod(1, 40_000)))
            .then("the choice falls on the second", |datapath, _| {
                datapath.record(1, |record| record.inside.offset += 1)
            })
            .send(Place::Pod, pod(2, 40_000), to(Who::OtherPod, pod(2, 40_000)))
            .send(Place::Pod, pod(1, 40_001), to(Who::Pod, pod(1, 40_001)))
            .send(Place::Pod, pod(2, 40_001), to(Who::OtherPod, pod(2, 40_001))),
        Case::new(
            "a client of two services",
            [
                sticky(),
                Service::tcp(Who::ClusterIp, 80)
                    .backend(Who::OtherPod, 8080)
                    .affinity(10),
            ],
        )
        .then("the first pod alone is in the list", narrow)
        .send(
            Place::Uplink,
            syn((Who::Client, 40_000)),
            to(Who::Pod, syn((Who::Client, 40_000))),
        )
        .send(
            Place::Uplink,
            other_service.clone(),
            to(Who::OtherPod, other_service),
        )
        .then("the choice falls on the second", switch)
        .send(
            Place::Uplink,
            syn((Who::Client, 40_002)),
            to(Who::Pod, syn((Who::Client, 40_002))),
        ),
        remembered("a timeout that is changed forgets nobody")
            .then("a longer timeout", |datapath, _| {
                datapath.record(1, |record| record.affinity_seconds = 20)
            })
            .send(
                Place::Uplink,
                syn((Who::Client, 40_001)),
                to(Who::Pod, syn((Who::Client, 40_001))),
            )
            .then("a shorter one", |datapath, _| {
                datapath.record(1, |record| record.affinity_seconds = 5)
            })
            .send(
                Place::Uplink,
                syn((Who::Client, 40_002)),
                to(Who::Pod, syn((Who::Client, 40_002))),
            ),
    ]);
}

#[test]
fn connections_spread_evenly_over_the_backends() {
    const CONNECTIONS: u16 = 2000;
    let bed = Testbed::new().expect("the testbed");
    let mut datapath = Datapath::load(Options {
        flow_buckets: 4096,
        ..Options::default()
    })
    .expect("the kernel object");
    let service = (0..4).fold(Service::tcp(Who::Vip, 80), |service, n| {
        service.backend(Who::Pod, 8080 + n)
    });
    for family in Family::BOTH {
        datapath.reset(&bed).expect("empty maps");
        datapath
            .install(family, std::slice::from_ref(&service))
            .expect("a service");
        for port in 0..CONNECTIONS {
            let frame = syn((Who::Client, 20_000 + port)).frame(family);
            let run = Hook::UplinkIn.run(&datapath, &bed, &frame).expect("a run");
            assert_eq!(run.verdict, Verdict::Pass);
        }
        let mut counts = BTreeMap::new();
        for flow in datapath
            .flows(family)
            .expect("flows")
            .iter()
            .filter(|flow| !flow.reply)
        {
            *counts.entry(flow.new_dst).or_insert(0_u32) += 1;
        }
        // The standard deviation is 19.4: six of them are one false alarm in a hundred million runs.
        let even = u32::from(CONNECTIONS / 4);
        assert_eq!(counts.len(), 4, "{family:?}: {counts:?}");
        assert!(
            counts.values().all(|n| n.abs_diff(even) < 120),
            "{family:?}: {counts:?}"
        );
    }
}
