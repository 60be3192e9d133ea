//! One rule a test, in scenes.

use std::time::Duration;

use lb_common::addr::Addr;
use lb_common::backend::{IN_CLUSTER_LIST, LOCAL};
use lb_common::prefilter;

use super::*;
use crate::reconcile::fake::{FakeFlow, Fault};
use crate::reconcile::maps::MapError;
use crate::reconcile::{Collected, ServiceError};

fn web(endpoints: &[&str]) -> Case {
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|address| ep(address)).collect();
    Case::new("web", "10.96.0.1", Protocol::Tcp).with(&endpoints)
}

fn flow(backend: u32) -> FakeFlow {
    FakeFlow {
        backend,
        addresses: [Addr::ANY6, Addr::ANY6],
    }
}

#[test]
fn one_endpoint_more_costs_a_handful_of_writes() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2"])]);
    let before = rig.maps.writes;
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2", "10.1.0.3"])]);
    // Its bit, the backend, the slots, the record, the frontend.
    assert_eq!(rig.maps.writes - before, 5);
    assert_eq!(
        rig.leads_to("10.96.0.1").unwrap(),
        ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
    );
    let before = rig.maps.writes;
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2", "10.1.0.3"])]);
    assert_eq!(rig.maps.writes, before, "what is as it should be is not written");
}

#[test]
fn a_record_and_its_slots_stay_for_the_grace_and_a_backend_as_long_as_a_flow_names_it() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2"])]);
    let (index, _) = rig.backend("10.1.0.2");
    rig.maps.flows.push(flow(index));
    rig.applied(&[&web(&["10.1.0.1"])]);
    let taken = rig.reconciler.usage(&rig.maps);
    rig.collect();
    assert_eq!(rig.reconciler.usage(&rig.maps), taken, "the grace is not over");

    rig.pass(GRACE);
    rig.collect();
    let usage = rig.reconciler.usage(&rig.maps);
    assert_eq!((usage.records, usage.slots, usage.backends), (2, 1, 2));
    assert!(
        rig.maps
            .prefilter
            .contains(&prefilter::bit("10.1.0.2".parse::<IpAddr>().unwrap().into()))
    );

    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2"])]);
    assert_eq!(
        rig.backend("10.1.0.2").0,
        index,
        "an endpoint that returns has its index again"
    );
    rig.applied(&[&web(&["10.1.0.1"])]);
    rig.maps.flows.clear();
    rig.pass(GRACE);
    rig.collect();
    assert_eq!(rig.reconciler.usage(&rig.maps).backends, 1);
    assert!(
        !rig.maps
            .prefilter
            .contains(&prefilter::bit("10.1.0.2".parse::<IpAddr>().unwrap().into()))
    );
}

#[test]
fn a_bit_stays_while_a_flow_carries_the_address() {
    let mut rig = Rig::new(ROOMY);
    let web = web(&[]);
    rig.applied(&[&web]);
    let vip: Addr = "10.96.0.1".parse::<IpAddr>().unwrap().into();
    rig.maps.flows.push(FakeFlow {
        backend: 99,
        addresses: [Addr::ANY6, vip],
    });
    rig.remove(&web);
    rig.pass(GRACE);
    rig.collect();
    assert!(rig.maps.prefilter.contains(&prefilter::bit(vip)));
    rig.maps.flows.clear();
    rig.collect();
    assert_empty(&rig.maps, &rig.reconciler);
}

/// S35.
#[test]
fn a_udp_endpoint_that_stops_serving_dies_once_another_serves() {
    let udp = Case::new("dns", "10.96.0.2", Protocol::Udp);
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&udp.clone().with(&[ep("10.1.0.1")])]);
    let (index, alive) = rig.backend("10.1.0.1");
    let generation = |rig: &Rig| rig.maps.backends[&index].generation - alive.generation;

    rig.applied(&[&udp.clone().with(&[leaving("10.1.0.1", false)])]);
    assert_eq!(generation(&rig), 0, "none is left: it keeps its flows");
    rig.applied(&[&udp.clone().with(&[leaving("10.1.0.1", false), ep("10.1.0.2")])]);
    assert_eq!(generation(&rig), 1);
    rig.applied(&[&udp.clone().with(&[ep("10.1.0.1"), ep("10.1.0.2")])]);
    assert_eq!(generation(&rig), 2, "back, in the next life");
}

/// S37.
#[test]
fn a_tcp_endpoint_dies_when_it_is_gone_after_terminating() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2", "10.1.0.3"])]);
    let start: Vec<_> = ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
        .map(|address| rig.backend(address))
        .into();
    let case = web(&[]).with(&[ep("10.1.0.1"), leaving("10.1.0.2", true)]);
    rig.applied(&[&case]);
    rig.applied(&[&web(&["10.1.0.1"])]);
    let moved: Vec<u32> = start
        .iter()
        .map(|(index, backend)| rig.maps.backends[index].generation - backend.generation)
        .collect();
    assert_eq!(
        moved,
        [0, 1, 0],
        "the third left without terminating and keeps its flows"
    );
}

/// S33.
#[test]
fn leaving_a_list_moves_the_epoch_and_nothing_else_does() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2"])]);
    let (index, before) = rig.backend("10.1.0.2");
    rig.applied(&[&web(&["10.1.0.1"])]);
    let gone = rig.maps.backends[&index];
    assert_eq!((gone.epoch, gone.flags), (before.epoch + 1, LOCAL));
    rig.applied(&[&web(&["10.1.0.1", "10.1.0.2", "10.1.0.3"])]);
    let back = rig.maps.backends[&index];
    assert_eq!(
        (back.epoch, back.flags),
        (before.epoch + 1, LOCAL | IN_CLUSTER_LIST)
    );
}

/// A Service of too many frontends had its names and records written, taken back, freed and written again, for ever, and
/// what they held was missing to the others.
#[test]
fn a_service_of_more_frontends_than_fit_leaves_nothing_behind() {
    let capacities = Capacities {
        frontends: 4,
        services: 2,
        ..ROOMY
    };
    let mut rig = Rig::new(capacities);
    let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let big = Case::new("a-big", "10.96.0.1", Protocol::Tcp).external(&ips, None);
    rig.apply(&[&big]);
    assert!(rig.reconciler.failed().contains(&big.key()));
    assert_empty(&rig.maps, &rig.reconciler);
    let small = Case::new("small", "10.96.0.2", Protocol::Tcp);
    rig.applied(&[&small]);
    assert!(rig.apply(&[]).services.is_empty(), "no reason to try again");
}

#[test]
fn a_full_map_refuses_one_service_and_the_others_go_on() {
    let mut rig = Rig::new(Capacities { backends: 4, ..ROOMY });
    let big = web(&["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"]);
    let small = Case::new("api", "10.96.0.2", Protocol::Tcp).with(&[ep("10.1.0.9")]);
    let report = rig.apply(&[&big, &small]);
    let refused = &report.services[&big.key()].outcome;
    assert!(
        matches!(
            refused,
            Err(ServiceError::Map {
                cause: MapError::Full { map: "backends" },
                rolled_back: true
            })
        ),
        "{refused:?}"
    );
    assert_eq!(rig.leads_to("10.96.0.1"), None, "never half");
    assert_eq!(rig.leads_to("10.96.0.2").unwrap(), ["10.1.0.9"]);

    rig.remove(&small);
    rig.applied(&[&web(&["10.1.0.1"])]);
    assert_eq!(rig.leads_to("10.96.0.1").unwrap(), ["10.1.0.1"]);
    rig.apply(&[&web(&["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"])]);
    assert_eq!(
        rig.leads_to("10.96.0.1").unwrap(),
        ["10.1.0.1"],
        "the old state stays"
    );
    assert_eq!(rig.reconciler.failed().len(), 1);
}

#[test]
fn a_service_without_room_is_tried_again_when_something_was_freed() {
    let mut rig = Rig::new(Capacities { backends: 4, ..ROOMY });
    let first = web(&["10.1.0.1", "10.1.0.2"]);
    let second = Case::new("api", "10.96.0.2", Protocol::Tcp).with(&[ep("10.1.0.8"), ep("10.1.0.9")]);
    rig.apply(&[&first, &second]);
    assert_eq!(rig.reconciler.failed().len(), 1);
    let fits = if rig.leads_to("10.96.0.1").is_some() {
        &first
    } else {
        &second
    };
    rig.remove(fits);
    rig.pass(GRACE);
    rig.collect();
    rig.apply(&[]);
    assert!(rig.reconciler.failed().is_empty());
}

#[test]
fn a_write_that_fails_takes_the_service_back_to_what_it_was() {
    for fault in [Fault::Full, Fault::Io] {
        for writes in 0.. {
            let mut rig = Rig::new(ROOMY);
            let before = Case::new("web", "10.96.0.1", Protocol::Tcp)
                .external(&["192.0.2.1"], None)
                .with(&[ep("10.1.0.1"), ep("10.1.0.2")]);
            rig.applied(&[&before]);
            let frontends = rig.maps.frontends.clone();
            let after = before
                .clone()
                .external(&["192.0.2.2"], None)
                .with(&[ep("10.1.0.2"), ep("10.1.0.3")]);
            rig.maps.fail_after(writes, fault);
            let report = rig.apply(&[&after]);
            if rig.maps.withdraw_fault() {
                assert!(writes > 5);
                break;
            }
            assert!(report.services[&after.key()].outcome.is_err());
            assert_eq!(rig.maps.frontends, frontends, "{writes} writes before {fault:?}");
            let (_, first) = rig.backend("10.1.0.1");
            assert_eq!(
                (first.generation % 2, first.flags & IN_CLUSTER_LIST),
                (0, IN_CLUSTER_LIST)
            );
            rig.applied(&[&after]);
            assert_eq!(rig.leads_to("10.96.0.1").unwrap(), ["10.1.0.2", "10.1.0.3"]);
            rig.remove(&after);
            rig.pass(GRACE);
            rig.collect();
            assert_empty(&rig.maps, &rig.reconciler);
        }
    }
}

/// S46.
#[test]
fn the_older_service_has_the_address_and_the_younger_gets_it_when_it_goes() {
    let mut rig = Rig::new(ROOMY);
    let young = Case::new("a-young", "10.96.0.1", Protocol::Tcp)
        .external(&["192.0.2.1"], Some(200))
        .with(&[ep("10.1.0.1")]);
    let old = Case::new("b-old", "10.96.0.2", Protocol::Tcp)
        .external(&["192.0.2.1"], Some(100))
        .with(&[ep("10.1.0.2")]);
    rig.applied(&[&young]);
    assert_eq!(rig.leads_to("192.0.2.1").unwrap(), ["10.1.0.1"]);
    let report = rig.apply(&[&old]);
    assert_eq!(rig.leads_to("192.0.2.1").unwrap(), ["10.1.0.2"]);
    let conflicts = &report.services[&young.key()].conflicts;
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].frontend, frontend("192.0.2.1", 80));
    assert_eq!(conflicts[0].winner.service, old.key());
    assert_eq!(
        conflicts[0].to_string(),
        "192.0.2.1 port 80 belongs to Service default/b-old (80 TCP, IPv4) already"
    );
    assert!(report.services[&old.key()].conflicts.is_empty());

    let report = rig.remove(&old);
    assert_eq!(rig.leads_to("192.0.2.1").unwrap(), ["10.1.0.1"]);
    assert!(report.services[&young.key()].conflicts.is_empty());
}

/// S46.
#[test]
fn a_cluster_ip_is_never_displaced() {
    let mut rig = Rig::new(ROOMY);
    let thief = Case::new("thief", "10.96.0.1", Protocol::Tcp)
        .external(&["10.96.0.2"], Some(1))
        .with(&[ep("10.1.0.1")]);
    let owner = Case::new("owner", "10.96.0.2", Protocol::Tcp).with(&[ep("10.1.0.2")]);
    rig.applied(&[&thief]);
    let report = rig.apply(&[&owner]);
    assert_eq!(rig.leads_to("10.96.0.2").unwrap(), ["10.1.0.2"]);
    assert_eq!(report.services[&thief.key()].conflicts.len(), 1);
}

#[test]
fn node_addresses_pass_the_prefilter_as_long_as_they_are_there() {
    let mut rig = Rig::new(ROOMY);
    let address: IpAddr = "172.18.0.2".parse().unwrap();
    rig.reconciler
        .set_node_addresses(&mut rig.maps, [address])
        .unwrap();
    assert!(rig.maps.prefilter.contains(&prefilter::bit(address.into())));
    rig.collect();
    assert!(rig.maps.prefilter.contains(&prefilter::bit(address.into())));
    rig.reconciler.set_node_addresses(&mut rig.maps, []).unwrap();
    let collected = rig
        .reconciler
        .collect(&mut rig.maps, rig.now + Duration::from_secs(1))
        .unwrap();
    assert_eq!(
        collected,
        Collected {
            // The address's own, and the one it has as a frontend.
            prefilter_bits: 2,
            ..Collected::default()
        }
    );
}
