//! What one Service gets: what it asks for, else what it held before, else something free.
//!
//! Owns: the API server's rules for families, cluster IPs, node ports, health-check ports and load-balancer
//! addresses, and its words when a wish cannot be granted. Must not know: who else holds what, beyond "taken".

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::allocate::{Allocation, Allocator};
use super::ranges::{is_usable, pick_address, pick_port, seed};
use crate::model::{IpFamily, Problem, ServiceKey, parse, parse_ip_sloppy};

/// One Service that asks, while nothing of its own is marked as taken.
pub(super) struct Request<'a> {
    pub(super) allocator: &'a Allocator,
    pub(super) key: &'a ServiceKey,
    pub(super) before: Allocation,
}

impl Request<'_> {
    /// What the Service gets, written into it too, and warnings.
    pub(super) fn serve(
        &self,
        service: &mut v1::Service,
        created: i64,
    ) -> Result<(Allocation, Vec<Problem>), Problem> {
        let mut allocation = Allocation {
            created,
            ..Allocation::default()
        };
        let mut warnings = Vec::new();
        let stamp = service
            .metadata
            .creation_timestamp
            .get_or_insert_with(|| Time(timestamp(created)));
        allocation.created = stamp.0.as_second();

        let spec = service.spec.get_or_insert_default();
        let families = self.families(spec)?;
        allocation.cluster_ips = self.cluster_ips(spec, &families)?;
        let texts: Vec<String> = allocation.cluster_ips.iter().map(ToString::to_string).collect();
        spec.cluster_ip = texts.first().cloned();
        spec.cluster_ips = Some(texts);
        spec.ip_families = Some(families.iter().map(ToString::to_string).collect());

        if matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) {
            allocation.node_ports = self.node_ports(spec)?;
        }
        let is_load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
        if is_load_balancer && spec.external_traffic_policy.as_deref() == Some("Local") {
            let port = self.health_check_port(spec, &allocation)?;
            spec.health_check_node_port = Some(i32::from(port));
            allocation.health_check_node_port = Some(port);
        }
        if is_load_balancer {
            allocation.load_balancer_ips =
                self.load_balancer_ips(service, &allocation, &families, &mut warnings);
        }
        Ok((allocation, warnings))
    }

    /// The families the Service gets, by the API server's rules for `ipFamilyPolicy` and `ipFamilies`.
    fn families(&self, spec: &mut v1::ServiceSpec) -> Result<Vec<IpFamily>, Problem> {
        let ranges = self.allocator.ranges();
        let policy = spec
            .ip_family_policy
            .get_or_insert_with(|| "SingleStack".to_owned())
            .clone();
        let asked = requested_ips(spec);
        let named = spec.ip_families.as_deref().unwrap_or_default();
        let mut families: Vec<IpFamily> = IpFamily::ALL
            .into_iter()
            .filter(|family| named.contains(&family.to_string()))
            .collect();
        if named.first().is_some_and(|first| first == "IPv6") {
            families.reverse();
        }
        if policy == "SingleStack" {
            let what = match (asked.len(), families.len()) {
                (2, _) => Some("cluster IPs"),
                (_, 2) => Some("IP families"),
                _ => None,
            };
            if let Some(what) = what {
                let why = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                return Err(Problem::invalid("spec.ipFamilyPolicy", policy, &why));
            }
        }
        for (index, &ip) in asked.iter().enumerate().skip(families.len()) {
            let family = IpFamily::of(ip);
            if ranges.cluster(family).is_none() {
                let why = format!("{family} is not configured on this cluster");
                return Err(Problem::invalid(
                    format!("spec.clusterIPs[{index}]"),
                    &asked,
                    &why,
                ));
            }
            families.push(family);
        }
        if policy == "RequireDualStack" && ranges.families().count() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            return Err(Problem::invalid("spec.ipFamilyPolicy", policy, why));
        }
        for (index, &family) in families.iter().enumerate() {
            if ranges.cluster(family).is_none() {
                let field = format!("spec.ipFamilies[{index}]");
                return Err(Problem::invalid(
                    field,
                    family.to_string(),
                    "not configured on this cluster",
                ));
            }
        }
        if families.is_empty() {
            families.extend(ranges.families().take(1));
        }
        if policy != "SingleStack" {
            let missing: Vec<IpFamily> = ranges
                .families()
                .filter(|family| !families.contains(family))
                .collect();
            families.extend(missing);
        }
        Ok(families)
    }

    fn cluster_ips(&self, spec: &v1::ServiceSpec, families: &[IpFamily]) -> Result<Vec<IpAddr>, Problem> {
        let asked = requested_ips(spec);
        let mut given = Vec::new();
        for &family in families {
            // The families were checked against the ranges.
            let Some(net) = self.allocator.ranges().cluster(family) else {
                continue;
            };
            let of_family = |ip: &&IpAddr| IpFamily::of(**ip) == family;
            if let Some(&ip) = asked.iter().find(of_family) {
                if let Some(why) = self.refusal(net, ip) {
                    let words = format!("failed to allocate IP {ip}: {why}");
                    return Err(Problem::invalid("spec.clusterIPs", &asked, &words));
                }
                given.push(ip);
                continue;
            }
            let before = self.before.cluster_ips.iter().find(of_family).copied();
            let place = seed(&format!("{}/clusterIP/{family}", self.key));
            let ip = before
                .filter(|&ip| self.refusal(net, ip).is_none())
                .or_else(|| pick_address(net, place, |ip| self.is_address_taken(ip)));
            match ip {
                Some(ip) => given.push(ip),
                None => {
                    let words = format!("failed to allocate a serviceIP: range is full: {net}");
                    return Err(Problem::new("spec.clusterIPs", words));
                }
            }
        }
        Ok(given)
    }

    fn refusal(&self, net: IpNet, ip: IpAddr) -> Option<String> {
        if !net.contains(&ip) {
            Some("the provided network does not match the current range".to_owned())
        } else if !is_usable(net, ip) {
            Some(format!(
                "provided IP is not in the valid range. The range of valid IPs is {net}"
            ))
        } else if self.is_address_taken(ip) {
            Some("provided IP is already allocated".to_owned())
        } else {
            None
        }
    }

    fn node_ports(&self, spec: &mut v1::ServiceSpec) -> Result<BTreeMap<String, u16>, Problem> {
        let allocates = spec.allocate_load_balancer_node_ports != Some(false);
        let ports = spec.ports.as_deref_mut().unwrap_or_default();
        let mut given: BTreeMap<String, u16> = BTreeMap::new();
        // What is asked for comes first, so that nothing chosen here takes it.
        for (index, port) in ports.iter().enumerate() {
            if let Some(number) = port.node_port.filter(|&number| number != 0) {
                let number = self.asked_port(&format!("spec.ports[{index}].nodePort"), number)?;
                given.insert(port_key(port), number);
            }
        }
        for (index, port) in ports.iter_mut().enumerate().filter(|_| allocates) {
            let key = port_key(port);
            if !given.contains_key(&key) {
                let number = self
                    .free_port(port, &given)
                    .ok_or_else(|| Problem::new(format!("spec.ports[{index}].nodePort"), RANGE_FULL))?;
                given.insert(key, number);
            }
        }
        for port in ports {
            port.node_port = given.get(&port_key(port)).map(|&number| i32::from(number));
        }
        Ok(given)
    }

    fn free_port(&self, port: &v1::ServicePort, given: &BTreeMap<String, u16>) -> Option<u16> {
        let key = port_key(port);
        let used: BTreeSet<u16> = given.values().copied().collect();
        let range = self.allocator.ranges().node_ports();
        let before = self.before.node_ports.get(&key).copied();
        // The same port of two protocols (DNS) gets one node port for both.
        let number = format!("/{}", port.port);
        let of_twin = given
            .iter()
            .find(|(other, _)| other.ends_with(&number))
            .map(|(_, &number)| number);
        before
            .filter(|port| range.contains(port) && !self.is_port_taken(*port))
            .filter(|port| !used.contains(port) || of_twin == Some(*port))
            .or(of_twin)
            .or_else(|| {
                let place = seed(&format!("{}/nodePort/{}", self.key, port.port));
                pick_port(range, place, |port| {
                    self.is_port_taken(port) || used.contains(&port)
                })
            })
    }

    fn asked_port(&self, field: &str, number: i32) -> Result<u16, Problem> {
        let range = self.allocator.ranges().node_ports();
        let (start, end) = (*range.start(), *range.end());
        match u16::try_from(number).ok().filter(|port| range.contains(port)) {
            None => {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {start}-{end}"
                );
                Err(Problem::invalid(field, number, &why))
            }
            Some(port) if self.is_port_taken(port) => Err(Problem::invalid(
                field,
                number,
                "provided port is already allocated",
            )),
            Some(port) => Ok(port),
        }
    }

    fn health_check_port(&self, spec: &v1::ServiceSpec, allocation: &Allocation) -> Result<u16, Problem> {
        let field = "spec.healthCheckNodePort";
        let used: BTreeSet<u16> = allocation.node_ports.values().copied().collect();
        if let Some(number) = spec.health_check_node_port.filter(|&number| number != 0) {
            let port = self.asked_port(field, number)?;
            return if used.contains(&port) {
                Err(Problem::invalid(
                    field,
                    number,
                    "provided port is already allocated",
                ))
            } else {
                Ok(port)
            };
        }
        let range = self.allocator.ranges().node_ports();
        let taken = |port: u16| self.is_port_taken(port) || used.contains(&port);
        let before = self
            .before
            .health_check_node_port
            .filter(|&port| range.contains(&port) && !taken(port));
        let place = seed(&format!("{}/healthCheckNodePort", self.key));
        before
            .or_else(|| pick_port(range, place, taken))
            .ok_or_else(|| Problem::new(field, RANGE_FULL))
    }

    /// A status in the manifest is honoured; else one address of each family that has a range, as a cloud
    /// would give it. None at all leaves the Service without a load balancer, as on bare metal.
    fn load_balancer_ips(
        &self,
        service: &mut v1::Service,
        allocation: &Allocation,
        families: &[IpFamily],
        warnings: &mut Vec<Problem>,
    ) -> Vec<IpAddr> {
        let ingress = parse::ingress(service);
        if !ingress.is_empty() {
            let texts = ingress.iter().filter_map(|entry| entry.ip.as_deref());
            return texts.filter_map(parse_ip_sloppy).collect();
        }
        let Some(spec) = &service.spec else {
            return Vec::new();
        };
        if let Some(class) = &spec.load_balancer_class {
            let words = format!("class {class:?}: no address is allocated for another load balancer's class");
            warnings.push(Problem::new("spec.loadBalancerClass", words));
            return Vec::new();
        }
        let asked = spec.load_balancer_ip.as_deref().and_then(parse_ip_sloppy);
        let mut given: Vec<IpAddr> = Vec::new();
        for &family in families {
            let nets: Vec<_> = self.allocator.ranges().load_balancer(family).collect();
            let fits = |ip: IpAddr| {
                nets.iter().any(|&net| is_usable(net, ip))
                    && !self.is_address_taken(ip)
                    && !allocation.cluster_ips.contains(&ip)
            };
            if let Some(ip) = asked.filter(|&ip| IpFamily::of(ip) == family && !nets.is_empty()) {
                if fits(ip) {
                    given.push(ip);
                } else {
                    let words = format!("{ip} is not in the load-balancer range or is already allocated");
                    warnings.push(Problem::new("spec.loadBalancerIP", words));
                }
                continue;
            }
            let before = self
                .before
                .load_balancer_ips
                .iter()
                .copied()
                .find(|&ip| IpFamily::of(ip) == family);
            let place = seed(&format!("{}/loadBalancer/{family}", self.key));
            let ip = before.filter(|&ip| fits(ip)).or_else(|| {
                nets.iter()
                    .find_map(|&net| pick_address(net, place, |ip| !fits(ip)))
            });
            match ip {
                Some(ip) => given.push(ip),
                None if nets.is_empty() => {}
                None => warnings.push(Problem::new(
                    "status.loadBalancer",
                    format!("no free {family} load-balancer address is left"),
                )),
            }
        }
        let ingress = given.iter().map(|ip| v1::LoadBalancerIngress {
            ip: Some(ip.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..Default::default()
        });
        service
            .status
            .get_or_insert_default()
            .load_balancer
            .get_or_insert_default()
            .ingress = Some(ingress.collect());
        given
    }

    fn is_address_taken(&self, ip: IpAddr) -> bool {
        self.allocator.is_address_taken(ip)
    }

    fn is_port_taken(&self, port: u16) -> bool {
        self.allocator.is_port_taken(port)
    }
}

const RANGE_FULL: &str = "failed to allocate a nodePort: range is full";

/// The cluster IPs a manifest states, valid by now.
pub(super) fn requested_ips(spec: &v1::ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.as_deref().filter(|listed| !listed.is_empty());
    let texts = listed.unwrap_or(spec.cluster_ip.as_slice());
    texts.iter().filter_map(|text| parse_ip_sloppy(text)).collect()
}

fn port_key(port: &v1::ServicePort) -> String {
    format!("{}/{}", port.protocol.as_deref().unwrap_or("TCP"), port.port)
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}
