//! Who is asked where about which Service (S40).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::{IpFamily, ServiceKey};

/// The health check of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its `healthCheckNodePort`.
    pub port: u16,
    /// The Service's `metadata.uid`, for events about it.
    pub uid: String,
    /// In each family the Service has: the distinct addresses of its ready endpoints on this node.
    pub local_endpoints: BTreeMap<IpFamily, usize>,
}

/// The checks of all Services.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    checks: BTreeMap<ServiceKey, Check>,
    addresses: BTreeSet<IpAddr>,
}

impl Checks {
    /// The check a Service has now, `None` for one that has none. Says whether listeners must follow.
    pub fn set(&mut self, service: &ServiceKey, check: Option<Check>) -> bool {
        let Some(check) = check else {
            return self.checks.remove(service).is_some();
        };
        let places = |check: &Check| {
            (
                check.port,
                check.local_endpoints.keys().copied().collect::<Vec<_>>(),
            )
        };
        let wanted = places(&check);
        let before = self.checks.insert(service.clone(), check);
        before.is_none_or(|before| places(&before) != wanted)
    }

    /// The addresses that serve nodePorts (S30). Says whether listeners must follow.
    pub fn set_addresses(&mut self, addresses: BTreeSet<IpAddr>) -> bool {
        let changed = self.addresses != addresses;
        self.addresses = addresses;
        changed
    }

    /// Every place where a Service is asked about: its port at the addresses of its families.
    #[must_use]
    pub fn places(&self) -> BTreeSet<(SocketAddr, ServiceKey)> {
        let of_service = |(service, check): (&ServiceKey, &Check)| {
            let addresses = self.addresses.iter();
            let own = addresses.filter(|ip| check.local_endpoints.contains_key(&IpFamily::of(**ip)));
            let places = own.map(|ip| (SocketAddr::new(*ip, check.port), service.clone()));
            places.collect::<Vec<_>>()
        };
        self.checks.iter().flat_map(of_service).collect()
    }

    /// The check of a Service.
    #[must_use]
    pub fn get(&self, service: &ServiceKey) -> Option<&Check> {
        self.checks.get(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IpFamily::{V4, V6};

    fn check(port: u16, families: &[(IpFamily, usize)]) -> Option<Check> {
        Some(Check {
            port,
            uid: String::new(),
            local_endpoints: families.iter().copied().collect(),
        })
    }

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn places(checks: &Checks) -> Vec<String> {
        let places = checks.places().into_iter();
        places.map(|(at, service)| format!("{at} {service}")).collect()
    }

    /// S40.
    #[test]
    fn a_service_is_asked_about_at_the_addresses_of_its_families() {
        let mut checks = Checks::default();
        let (dual, single) = (ServiceKey::new("n", "dual"), ServiceKey::new("n", "six"));
        assert!(checks.set(&dual, check(30_001, &[(V4, 1), (V6, 0)])));
        assert!(checks.set(&single, check(30_002, &[(V6, 0)])));
        assert!(places(&checks).is_empty(), "no address yet");
        assert!(checks.set_addresses(addresses(&["192.0.2.1", "2001:db8::1"])));
        assert_eq!(
            places(&checks),
            [
                "192.0.2.1:30001 n/dual",
                "[2001:db8::1]:30001 n/dual",
                "[2001:db8::1]:30002 n/six"
            ]
        );
        assert!(!checks.set_addresses(addresses(&["2001:db8::1", "192.0.2.1"])));
        assert!(checks.set_addresses(addresses(&["192.0.2.1"])));
        assert_eq!(places(&checks), ["192.0.2.1:30001 n/dual"]);
    }

    /// S40.
    #[test]
    fn listeners_follow_ports_and_families_but_not_endpoints() {
        let mut checks = Checks::default();
        let web = ServiceKey::new("n", "web");
        let steps = [
            (None, false),
            (check(30_001, &[(V4, 1)]), true),
            (check(30_001, &[(V4, 2)]), false),
            (check(30_001, &[(V4, 2), (V6, 0)]), true),
            (check(30_002, &[(V4, 2), (V6, 0)]), true),
            (None, true),
            (None, false),
        ];
        for (index, (check, expected)) in steps.into_iter().enumerate() {
            assert_eq!(checks.set(&web, check), expected, "step {index}");
        }
    }
}
