//! Random histories: Services, endpoints, flows, faults, full maps and restarts, with the invariants checked after each step.
//! The maps in memory check by themselves that nothing is written over that a reader may look at.

use std::collections::BTreeMap;

use ipnet::IpNet;
use lb_common::addr::Addr;
use lb_common::backend::{IN_CLUSTER_LIST, IN_LOCAL_LIST};
use lb_common::prefilter;
use lb_common::service::{SlotRange, flags};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::plan::{PlannedList, PlannedServicePort, RecordRole};
use crate::reconcile::ServiceError;
use crate::reconcile::fake::{FakeFlow, Fault};
use crate::reconcile::names::from_name;

const NAMES: [(&str, &str, Protocol); 5] = [
    ("a", "10.96.0.1", Protocol::Tcp),
    ("b", "10.96.0.2", Protocol::Udp),
    ("c", "10.96.0.3", Protocol::Tcp),
    ("d", "10.96.0.4", Protocol::Udp),
    ("e", "10.96.0.5", Protocol::Tcp),
];

/// Networks that load-balancer addresses may be restricted to; the last holds everybody.
const RANGES: [&str; 4] = ["203.0.113.0/24", "192.0.2.0/25", "192.0.2.128/25", "0.0.0.0/0"];

/// External addresses, one of them the cluster IP of a Service.
const SHARED: [&str; 3] = ["192.0.2.1", "192.0.2.2", "10.96.0.1"];

struct History {
    rng: StdRng,
    rig: Rig,
    desired: BTreeMap<ServiceKey, Case>,
    /// The plan each Service was last brought to.
    applied: BTreeMap<ServiceKey, ServicePlan>,
    /// Services that report a fault of the way back too: they are not whole, and say so.
    broken: BTreeSet<ServiceKey>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let capacities = if rng.random_bool(0.5) {
            ROOMY
        } else {
            Capacities {
                frontends: rng.random_range(6..20),
                records: rng.random_range(6..24),
                slots: rng.random_range(10..40),
                backends: rng.random_range(5..20),
                services: rng.random_range(4..10),
                source_ranges: rng.random_range(3..12),
            }
        };
        Self {
            rng,
            rig: Rig::new(capacities),
            desired: BTreeMap::new(),
            applied: BTreeMap::new(),
            broken: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        if self.rng.random_bool(0.3) {
            let fault = *[Fault::Full, Fault::Io].choose(&mut self.rng).unwrap();
            self.rig.maps.fail_after(self.rng.random_range(0..12), fault);
        }
        match self.rng.random_range(0..10) {
            0..=5 => self.change(),
            6 => self.restart(),
            7 => self.flows(),
            _ => {
                let time = *[GRACE / 3, GRACE].choose(&mut self.rng).unwrap();
                self.rig.pass(time);
                let _ = self.rig.reconciler.collect(&mut self.rig.maps, self.rig.now);
            }
        }
        self.rig.maps.withdraw_fault();
    }

    fn change(&mut self) {
        let mut changes = BTreeMap::new();
        for _ in 0..self.rng.random_range(1..4) {
            let case = self.case();
            if self.rng.random_bool(0.2) {
                self.desired.remove(&case.key());
                changes.insert(case.key(), None);
            } else {
                changes.insert(case.key(), Some(case.plan()));
                self.desired.insert(case.key(), case);
            }
        }
        let report = self
            .rig
            .reconciler
            .apply(&mut self.rig.maps, self.rig.now, changes);
        self.note(report);
    }

    fn restart(&mut self) {
        let writes = self.rig.maps.writes;
        self.rig.reconciler = Reconciler::restore(&self.rig.maps, GRACE, self.rig.now).unwrap();
        let all: Vec<_> = self
            .desired
            .values()
            .map(|case| (case.key(), Some(case.plan())))
            .collect();
        self.rig.reconciler.apply(&mut self.rig.maps, self.rig.now, all);
        assert_eq!(self.rig.maps.writes, writes, "nothing before all inputs are in");
        let report = self
            .rig
            .reconciler
            .inputs_complete(&mut self.rig.maps, self.rig.now);
        self.note(report);
    }

    fn note(&mut self, report: Report) {
        for (service, report) in report.services {
            match report.outcome {
                Ok(_) => self.broken.remove(&service),
                Err(ServiceError::Map {
                    rolled_back: true, ..
                }) => continue,
                Err(_) => {
                    self.broken.insert(service);
                    continue;
                }
            };
            match self.desired.get(&service) {
                Some(case) => self.applied.insert(service, case.plan()),
                None => self.applied.remove(&service),
            };
        }
    }

    fn case(&mut self) -> Case {
        let rng = &mut self.rng;
        let (name, ip, protocol) = *NAMES.choose(rng).unwrap();
        let mut case = Case::new(name, ip, protocol);
        if rng.random_bool(0.3) {
            case.service.ports.push(ServicePort {
                name: "more".into(),
                protocol,
                port: 81,
                node_port: Some(30081),
            });
        }
        let external: Vec<&str> = SHARED.into_iter().filter(|_| rng.random_bool(0.25)).collect();
        case = case.external(&external, Some(rng.random_range(0..3)));
        let vips = SHARED.into_iter().filter(|_| rng.random_bool(0.3));
        case.service.load_balancer_vips = vips.map(|ip| ip.parse().unwrap()).collect();
        let ranges = RANGES.into_iter().filter(|_| rng.random_bool(0.4));
        case.service.load_balancer_source_ranges = ranges.map(|range| range.parse().unwrap()).collect();
        for policy in [
            &mut case.service.internal_traffic_policy,
            &mut case.service.external_traffic_policy,
        ] {
            if rng.random_bool(0.3) {
                *policy = TrafficPolicy::Local;
            }
        }
        for n in 1..=5 {
            let address = format!("10.1.0.{n}");
            let mut endpoint = match rng.random_range(0..6) {
                0..=2 => ep(&address),
                3 => leaving(&address, true),
                4 => leaving(&address, false),
                _ => continue,
            };
            if rng.random_bool(0.5) {
                endpoint.node_name = Some("node-2".into());
            }
            case.endpoints.push(endpoint);
        }
        case
    }

    fn flows(&mut self) {
        let maps = &mut self.rig.maps;
        maps.flows.retain(|_| self.rng.random_bool(0.5));
        for record in maps.records_in_sight() {
            let Some(record) = maps.records.get(&record) else {
                continue;
            };
            let slots = record.inside.offset..record.inside.offset + record.inside.len;
            for slot in slots {
                if self.rng.random_bool(0.3) {
                    let backend = maps.slots[slot as usize];
                    let addresses = [Addr::ANY6, maps.backends[&backend].addr];
                    maps.flows.push(FakeFlow { backend, addresses });
                }
            }
        }
    }

    fn check(&self) {
        let maps = &self.rig.maps;
        for (key, value) in &maps.frontends {
            let record = maps.records[&value.index_for(key).expect("the key's own value")];
            let name = from_name(&maps.names[&record.service]).unwrap();
            if key.addr != Addr::ANY4 {
                assert!(
                    maps.prefilter.contains(&prefilter::bit(key.addr)),
                    "{name}: frontend's bit"
                );
            }
            if self.broken.contains(&name.service) {
                continue;
            }
            let plan = self
                .applied
                .get(&name.service)
                .expect("a frontend of an applied Service");
            let port = plan
                .ports
                .iter()
                .find(|port| port.key == name)
                .expect("of a planned port");
            let role = port.frontends.get(key).expect("a planned frontend");
            let planned = match role {
                RecordRole::Cluster => &port.cluster,
                RecordRole::External | RecordRole::Restricted => port.external.as_ref().unwrap(),
                RecordRole::UnknownPort => {
                    assert_eq!((record.flags, record.inside.len), (flags::UNKNOWN_PORT, 0));
                    continue;
                }
            };
            self.check_sources(record.sources, &port.sources, *role);
            let local = |flag| record.flags & flag != 0;
            self.check_list(
                record.inside,
                &planned.inside,
                local(flags::INSIDE_LOCAL_LIST),
                record.service,
            );
            self.check_list(
                record.outside,
                &planned.outside,
                local(flags::OUTSIDE_LOCAL_LIST),
                record.service,
            );
        }
        let whole = self
            .applied
            .iter()
            .filter(|(service, _)| !self.broken.contains(*service));
        for port in whole.flat_map(|(_, plan)| &plan.ports) {
            self.check_frontends(port);
        }
    }

    fn check_sources(&self, set: u32, planned: &BTreeSet<IpNet>, role: RecordRole) {
        assert_eq!(set != 0, role == RecordRole::Restricted);
        if set != 0 {
            let keys = self.rig.maps.source_ranges.keys();
            let networks: BTreeSet<IpNet> = keys
                .filter(|key| key.bits.set == set)
                .map(|key| key.network().unwrap())
                .map(|(network, len)| IpNet::new(network, len).unwrap())
                .collect();
            assert_eq!(networks, *planned);
        }
    }

    fn check_list(&self, range: SlotRange, planned: &PlannedList, local: bool, service: u32) {
        let maps = &self.rig.maps;
        let mut led_to = Vec::new();
        for slot in range.offset..range.offset + range.len {
            let backend = maps.backends[&maps.slots[slot as usize]];
            assert_eq!(
                (backend.service, backend.generation % 2),
                (service, 0),
                "alive and its own"
            );
            let list = if local { IN_LOCAL_LIST } else { IN_CLUSTER_LIST };
            assert_ne!(backend.flags & list, 0, "in the list it is chosen from");
            assert!(maps.prefilter.contains(&prefilter::bit(backend.addr)));
            led_to.push(crate::reconcile::mirror::address_of(&backend));
        }
        assert_eq!(led_to, planned.endpoints);
    }

    /// The frontends of an applied Service are there. Those that others ask for at times may be with others, or missing if
    /// this Service could not take them over.
    fn check_frontends(&self, port: &PlannedServicePort) {
        let failed = self.rig.reconciler.failed().contains(&port.key.service);
        for key in port.frontends.keys() {
            let address = key.addr.to_ip().to_string();
            let is_shared = key.addr == Addr::ANY4 || SHARED.contains(&address.as_str());
            let excused = is_shared && (failed || self.is_claimed_twice(key));
            let present = self.rig.maps.frontends.contains_key(key);
            assert!(present || excused, "{} lacks {key:?}", port.key);
        }
    }

    /// Whether another Service wants it too, but may not have got it for want of room.
    fn is_claimed_twice(&self, key: &FrontendKey) -> bool {
        let desired = self.desired.values().map(Case::plan);
        let claims = desired
            .flat_map(|plan| plan.ports)
            .filter(|port| port.frontends.contains_key(key));
        claims.count() > 1
    }

    fn end(mut self) {
        self.rig.maps.flows.clear();
        let all: Vec<_> = self.desired.keys().map(|key| (key.clone(), None)).collect();
        self.rig.reconciler.apply(&mut self.rig.maps, self.rig.now, all);
        for _ in 0..2 {
            self.rig.reconciler.apply(&mut self.rig.maps, self.rig.now, []);
            self.rig.pass(GRACE);
            self.rig.collect();
        }
        assert_empty(&self.rig.maps, &self.rig.reconciler);
    }
}

#[test]
fn no_history_breaks_what_a_reader_sees() {
    for seed in 0..100 {
        let mut history = History::new(seed);
        for _ in 0..60 {
            history.step();
            history.check();
        }
        history.end();
    }
}
