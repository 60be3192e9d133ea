//! The sets of source ranges: who may use a load-balancer address (S23, S27).

use lb_common::source_range::SourceRangeKey;

use super::*;
use crate::reconcile::ServiceError;
use crate::reconcile::fake::Fault;
use crate::reconcile::maps::MapError;

const VIP: &str = "198.51.100.1";
const OFFICE: &str = "203.0.113.0/24";
const PARTNER: &str = "192.0.2.0/25";

fn web(ranges: &[&str]) -> Case {
    let mut case = Case::new("web", "10.96.0.1", Protocol::Tcp).with(&[ep("10.1.0.1")]);
    case.service.load_balancer_vips = vec![VIP.parse().unwrap()];
    case.service.load_balancer_source_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
    case
}

impl Rig {
    fn set_at(&self, address: &str) -> u32 {
        let index = self.maps.frontends[&frontend(address, 80)].index();
        self.maps.records[&index].sources
    }

    /// The networks of the set that stands at an address, as texts in order.
    fn sources(&self, address: &str) -> Vec<String> {
        let set = self.set_at(address);
        let keys = self.maps.source_ranges.keys();
        let mut networks: Vec<String> = keys
            .filter(|key| key.bits.set == set)
            .map(|key| key.network().unwrap())
            .map(|(network, len)| format!("{network}/{len}"))
            .collect();
        networks.sort();
        networks
    }
}

#[test]
fn only_load_balancer_addresses_have_ranges() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&[OFFICE]).external(&["192.0.2.77"], None)]);
    assert_eq!(rig.sources(VIP), [OFFICE]);
    assert_eq!([rig.set_at("10.96.0.1"), rig.set_at("192.0.2.77")], [0, 0]);
    assert_eq!(rig.leads_to(VIP).unwrap(), ["10.1.0.1"]);
    let owners: Vec<_> = rig.maps.source_ranges.values().copied().collect();
    let port = &web(&[]).plan().ports[0].key;
    assert_eq!(owners, [rig.reconciler.id(port).unwrap()]);
}

#[test]
fn changed_ranges_are_a_new_set_beside_the_old_one_until_the_grace_is_over() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&[OFFICE])]);
    let old = rig.set_at(VIP);
    rig.applied(&[&web(&[OFFICE, PARTNER])]);
    assert_eq!(rig.sources(VIP), [PARTNER, OFFICE]);
    assert_ne!(rig.set_at(VIP), old);
    rig.collect();
    let of_old = |rig: &Rig| {
        let keys = rig.maps.source_ranges.keys();
        keys.filter(|key| key.bits.set == old).count()
    };
    assert_eq!(of_old(&rig), 1, "a reader may hold the old record");

    rig.pass(GRACE);
    rig.collect();
    assert_eq!(of_old(&rig), 0);
    rig.applied(&[&web(&[])]);
    assert_eq!(rig.set_at(VIP), 0, "open to everybody");
    rig.pass(GRACE);
    rig.collect();
    assert!(rig.maps.source_ranges.is_empty());
}

#[test]
fn changed_endpoints_cost_no_write_of_ranges() {
    let mut rig = Rig::new(ROOMY);
    let case = web(&[OFFICE, PARTNER]);
    rig.applied(&[&case]);
    let (set, writes) = (rig.set_at(VIP), rig.maps.writes);
    rig.applied(&[&case.with(&[ep("10.1.0.1"), ep("10.1.0.2")])]);
    assert_eq!(rig.set_at(VIP), set);
    // Its bit, the backend, the slots; a record and a frontend for the cluster IP and for the VIP.
    assert_eq!(rig.maps.writes - writes, 7);
}

#[test]
fn ranges_without_room_leave_the_service_as_it_was_and_are_tried_again() {
    let mut rig = Rig::new(Capacities {
        source_ranges: 3,
        ..ROOMY
    });
    let mut other = web(&[OFFICE, PARTNER]);
    other.service.key = ServiceKey::new("default", "other");
    other.service.cluster_ips = vec!["10.96.0.2".parse().unwrap()];
    other.service.load_balancer_vips = vec!["198.51.100.2".parse().unwrap()];
    rig.applied(&[&web(&[OFFICE]), &other]);

    let writes = rig.maps.writes;
    let report = rig.apply(&[&web(&[OFFICE, PARTNER])]);
    let outcome = &report.services[&web(&[]).key()].outcome;
    let is_full = matches!(
        outcome,
        Err(ServiceError::Map {
            cause: MapError::Full { map: "source_ranges" },
            rolled_back: true
        })
    );
    assert!(is_full, "{outcome:?}");
    assert_eq!(rig.maps.writes, writes);
    assert_eq!(rig.sources(VIP), [OFFICE]);

    rig.remove(&other);
    rig.pass(GRACE);
    rig.collect();
    assert_eq!(rig.reconciler.usage(&rig.maps).source_ranges, 1);
    rig.applied(&[]);
    assert_eq!(rig.sources(VIP), [PARTNER, OFFICE]);
}

#[test]
fn a_set_that_was_written_in_part_is_taken_back_whole() {
    let mut rig = Rig::new(ROOMY);
    rig.applied(&[&web(&[OFFICE])]);
    rig.maps.fail_after(1, Fault::Io);
    let report = rig.apply(&[&web(&[OFFICE, PARTNER])]);
    assert!(report.services[&web(&[]).key()].outcome.is_err());
    assert_eq!(rig.sources(VIP), [OFFICE]);
    assert_eq!(rig.maps.source_ranges.len(), 2);
    rig.collect();
    assert_eq!(rig.maps.source_ranges.len(), 1, "no reader ever saw the new set");
    rig.applied(&[]);
    assert_eq!(rig.sources(VIP), [PARTNER, OFFICE], "and the next try succeeds");
}

#[test]
fn a_restart_adopts_the_sets_and_prunes_what_no_record_names() {
    let mut rig = Rig::new(ROOMY);
    let case = web(&[OFFICE, PARTNER]);
    rig.applied(&[&case]);
    let set = rig.set_at(VIP);
    // What an agent leaves that was killed while it wrote a set, and what no agent writes.
    let stray = SourceRangeKey::new(set + 1, [10, 0, 0, 0].into(), 8);
    let foreign = SourceRangeKey {
        prefix_len: 3,
        ..stray
    };
    rig.maps.source_ranges.insert(stray, 1);
    rig.maps.source_ranges.insert(foreign, 99);

    let writes = rig.maps.writes;
    rig.reconciler = Reconciler::restore(&rig.maps, GRACE, rig.now).unwrap();
    rig.apply(&[&case]);
    rig.reconciler.inputs_complete(&mut rig.maps, rig.now);
    assert_eq!(rig.maps.writes, writes, "all is as it should be");
    assert_eq!(rig.set_at(VIP), set);
    rig.collect();
    assert_eq!(rig.maps.source_ranges.len(), 2);
    assert_eq!(rig.sources(VIP), [PARTNER, OFFICE]);
}

#[test]
fn a_set_that_lost_or_gained_ranges_while_no_agent_ran_is_replaced() {
    for spoil in [
        (|rig: &mut Rig| rig.maps.source_ranges.clear()) as fn(&mut Rig),
        |rig| {
            let set = rig.set_at(VIP);
            let key = SourceRangeKey::new(set, [0, 0, 0, 0].into(), 0);
            rig.maps.source_ranges.insert(key, 1);
        },
    ] {
        let mut rig = Rig::new(ROOMY);
        let case = web(&[OFFICE]);
        rig.applied(&[&case]);
        spoil(&mut rig);
        rig.reconciler = Reconciler::restore(&rig.maps, GRACE, rig.now).unwrap();
        rig.apply(&[&case]);
        rig.reconciler.inputs_complete(&mut rig.maps, rig.now);
        assert_eq!(rig.sources(VIP), [OFFICE]);
        rig.remove(&case);
        for _ in 0..2 {
            rig.pass(GRACE);
            rig.collect();
        }
        assert_empty(&rig.maps, &rig.reconciler);
    }
}
