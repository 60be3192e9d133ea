//! The reconciler against the maps in memory.

mod lifecycle;
mod random;
mod restart;
mod source_ranges;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use lb_common::frontend::FrontendKey;
use lb_common::port::Port;
use lb_common::protocol;

use super::fake::FakeMaps;
use super::maps::Capacities;
use super::{GRACE, Reconciler, Report};
use crate::model::{
    Endpoint, EndpointSlice, IpFamily, Protocol, Service, ServiceKey, ServicePort, SliceKey, SlicePort,
    TrafficPolicy,
};
use crate::plan::fixtures;
use crate::plan::{PlanConfig, ServicePlan, ThisNode, plan_service};

const ROOMY: Capacities = Capacities {
    frontends: 1000,
    records: 1000,
    slots: 10_000,
    backends: 1000,
    services: 1000,
    source_ranges: 1000,
};

/// A Service and its endpoints.
#[derive(Clone, Debug)]
struct Case {
    service: Service,
    endpoints: Vec<Endpoint>,
}

impl Case {
    /// `default/NAME` at a cluster IP, one port 80.
    fn new(name: &str, cluster_ip: &str, protocol: Protocol) -> Self {
        Self {
            service: Service {
                key: ServiceKey::new("default", name),
                cluster_ips: vec![cluster_ip.parse().unwrap()],
                ports: vec![ServicePort {
                    name: String::new(),
                    protocol,
                    port: 80,
                    node_port: None,
                }],
                ..fixtures::service()
            },
            endpoints: Vec::new(),
        }
    }

    fn with(mut self, endpoints: &[Endpoint]) -> Self {
        self.endpoints = endpoints.to_vec();
        self
    }

    fn external(mut self, ips: &[&str], created: Option<u64>) -> Self {
        self.service.external_ips = ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
        self.service.created = created.map(|s| SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        self
    }

    fn key(&self) -> ServiceKey {
        self.service.key.clone()
    }

    fn plan(&self) -> ServicePlan {
        let slice = EndpointSlice {
            key: SliceKey::new("default", format!("{}-1", self.service.key.name)),
            service: self.key(),
            family: IpFamily::V4,
            ports: self
                .service
                .ports
                .iter()
                .map(|port| SlicePort {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    port: 8080,
                })
                .collect(),
            endpoints: self.endpoints.clone(),
            triggered: None,
        };
        let node = ThisNode {
            name: "node-1".into(),
            ..ThisNode::default()
        };
        plan_service(&self.service, &[&slice], &node, &PlanConfig::default())
    }
}

/// A ready endpoint of this node.
fn ep(address: &str) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some("node-1".into()),
        zone_hints: BTreeSet::new(),
        node_hints: BTreeSet::new(),
    }
}

/// A terminating one, serving or not.
fn leaving(address: &str, serving: bool) -> Endpoint {
    Endpoint {
        ready: false,
        serving,
        terminating: true,
        ..ep(address)
    }
}

/// Maps and a reconciler on them, with a clock.
struct Rig {
    maps: FakeMaps,
    reconciler: Reconciler,
    now: Instant,
}

impl Rig {
    fn new(capacities: Capacities) -> Self {
        let now = Instant::now();
        let maps = FakeMaps::new(capacities, now, GRACE);
        let mut reconciler = Reconciler::restore(&maps, GRACE, now).unwrap();
        let mut unchanged = maps.clone();
        reconciler.inputs_complete(&mut unchanged, now);
        Self {
            maps,
            reconciler,
            now,
        }
    }

    fn apply(&mut self, cases: &[&Case]) -> Report {
        let changes: Vec<_> = cases.iter().map(|case| (case.key(), Some(case.plan()))).collect();
        self.reconciler.apply(&mut self.maps, self.now, changes)
    }

    fn remove(&mut self, case: &Case) -> Report {
        self.reconciler
            .apply(&mut self.maps, self.now, [(case.key(), None)])
    }

    fn applied(&mut self, cases: &[&Case]) {
        for (service, report) in self.apply(cases).services {
            assert!(report.outcome.is_ok(), "{service}: {report:?}");
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.maps.now = self.now;
    }

    fn collect(&mut self) {
        self.reconciler.collect(&mut self.maps, self.now).unwrap();
    }

    /// The addresses a frontend leads to, inside.
    fn leads_to(&self, address: &str) -> Option<Vec<String>> {
        let key = frontend(address, 80);
        let record = self.maps.records[&self.maps.frontends.get(&key)?.index()];
        let slots = record.inside.offset..record.inside.offset + record.inside.len;
        let backends = slots.map(|slot| self.maps.backends[&self.maps.slots[slot as usize]]);
        Some(backends.map(|backend| backend.addr.to_ip().to_string()).collect())
    }

    /// The index and the entry of the backend at an address.
    fn backend(&self, address: &str) -> (u32, lb_common::backend::Backend) {
        let address: IpAddr = address.parse().unwrap();
        let mut backends = self.maps.backends.iter();
        let found = backends.find(|(_, backend)| backend.service != 0 && backend.addr.to_ip() == address);
        found.map(|(&index, &backend)| (index, backend)).unwrap()
    }
}

fn frontend(address: &str, port: u16) -> FrontendKey {
    let address: IpAddr = address.parse().unwrap();
    FrontendKey::new(address.into(), Port::new(port), protocol::TCP)
}

/// Nothing is left but the counts of free backends.
fn assert_empty(maps: &FakeMaps, reconciler: &Reconciler) {
    assert!(maps.frontends.is_empty(), "{:?}", maps.frontends);
    assert!(maps.records.is_empty(), "{:?}", maps.records);
    assert!(maps.names.is_empty());
    assert!(maps.source_ranges.is_empty(), "{:?}", maps.source_ranges);
    assert!(maps.prefilter.is_empty());
    assert!(maps.backends.values().all(|backend| backend.service == 0));
    assert_eq!(reconciler.usage(maps), super::Usage::default());
    assert!(!reconciler.has_idle());
}
