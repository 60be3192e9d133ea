//! Sums over Services.

use std::collections::BTreeMap;

use crate::model::{IpFamily, ServiceKey};
use crate::plan::{EmptyVerdict, EndpointList, PlannedList, PlannedServicePort, ServicePlan};

/// What there is, kept up to date one Service at a time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    services: BTreeMap<ServiceKey, [Counts; 2]>,
    totals: [Counts; 2],
}

/// What a family has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Service ports.
    pub(super) ports: usize,
    /// Endpoints that new connections may get, of all ports.
    pub(super) endpoints: usize,
    /// Ports with an internal Local policy and endpoints only elsewhere.
    pub(super) no_local_internal: usize,
    /// The same of the external policy.
    pub(super) no_local_external: usize,
}

impl Tally {
    /// The plan of a Service now, `None` for one that is gone.
    pub fn renew(&mut self, service: &ServiceKey, plan: Option<&ServicePlan>) {
        let before = match plan {
            Some(plan) => self.services.insert(service.clone(), counts(plan)),
            None => self.services.remove(service),
        };
        let before = before.unwrap_or_default();
        let now = plan.map(counts).unwrap_or_default();
        for (total, (before, now)) in self.totals.iter_mut().zip(before.into_iter().zip(now)) {
            // The total holds what is taken from it.
            total.ports = total.ports + now.ports - before.ports;
            total.endpoints = total.endpoints + now.endpoints - before.endpoints;
            total.no_local_internal =
                total.no_local_internal + now.no_local_internal - before.no_local_internal;
            total.no_local_external =
                total.no_local_external + now.no_local_external - before.no_local_external;
        }
    }

    pub(super) fn services(&self) -> usize {
        self.services.len()
    }

    pub(super) fn of(&self, family: IpFamily) -> Counts {
        self.totals[index(family)]
    }
}

fn index(family: IpFamily) -> usize {
    match family {
        IpFamily::V4 => 0,
        IpFamily::V6 => 1,
    }
}

fn counts(plan: &ServicePlan) -> [Counts; 2] {
    let mut counts = [Counts::default(); 2];
    for port in &plan.ports {
        let family = &mut counts[index(port.key.family)];
        family.ports += 1;
        family.endpoints += port.backends.len();
        family.no_local_internal += usize::from(drops_for_elsewhere(&port.cluster.inside));
        family.no_local_external += usize::from(external_drops(port));
    }
    counts
}

fn external_drops(port: &PlannedServicePort) -> bool {
    let external = port.external.as_ref();
    external.is_some_and(|record| drops_for_elsewhere(&record.outside))
}

/// Whether the local list is asked for and empty while there are endpoints elsewhere (S22).
fn drops_for_elsewhere(list: &PlannedList) -> bool {
    list.list == EndpointList::Local && list.endpoints.is_empty() && list.when_empty == EmptyVerdict::Drop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, Service, TrafficPolicy};
    use crate::plan::{PlanConfig, fixtures, plan_service};

    fn plan(service: &Service, endpoints: &[Endpoint]) -> ServicePlan {
        let slice = fixtures::slice("web-1", endpoints);
        plan_service(service, &[&slice], &fixtures::this_node(), &PlanConfig::default())
    }

    #[test]
    fn totals_follow_each_service() {
        let (web, api) = (ServiceKey::new("shop", "web"), ServiceKey::new("shop", "api"));
        let (near, far) = (fixtures::here("10.1.0.1"), fixtures::ep("10.1.0.2"));
        let service = fixtures::service();
        let mut tally = Tally::default();
        tally.renew(&web, Some(&plan(&service, &[near.clone(), far.clone()])));
        tally.renew(&api, Some(&plan(&service, std::slice::from_ref(&near))));
        let of = |tally: &Tally| {
            (
                tally.services(),
                tally.of(IpFamily::V4).ports,
                tally.of(IpFamily::V4).endpoints,
            )
        };
        assert_eq!(of(&tally), (2, 2, 3));
        tally.renew(&web, Some(&plan(&service, std::slice::from_ref(&far))));
        assert_eq!(of(&tally), (2, 2, 2));
        tally.renew(&web, None);
        tally.renew(&web, None);
        assert_eq!(of(&tally), (1, 1, 1));
        assert_eq!(tally.of(IpFamily::V6), Counts::default());
    }

    /// S42.
    #[test]
    fn a_local_policy_counts_while_endpoints_are_only_elsewhere() {
        let (near, far) = (fixtures::here("10.1.0.1"), fixtures::ep("10.1.0.2"));
        let mut service = fixtures::service();
        service.external_ips = vec!["192.0.2.10".parse().unwrap()];
        let key = service.key.clone();
        let mut check = |internal, external, endpoints: &[Endpoint], expected: (usize, usize)| {
            service.internal_traffic_policy = internal;
            service.external_traffic_policy = external;
            let mut tally = Tally::default();
            tally.renew(&key, Some(&plan(&service, endpoints)));
            let counts = tally.of(IpFamily::V4);
            assert_eq!(
                (counts.no_local_internal, counts.no_local_external),
                expected,
                "{internal} {external}"
            );
        };
        use TrafficPolicy::{Cluster, Local};
        let elsewhere = std::slice::from_ref(&far);
        check(Cluster, Cluster, elsewhere, (0, 0));
        check(Local, Cluster, elsewhere, (1, 0));
        check(Cluster, Local, elsewhere, (0, 1));
        check(Local, Local, elsewhere, (1, 1));
        check(Local, Local, &[near, far], (0, 0));
        check(Local, Local, &[], (0, 0));
    }
}
