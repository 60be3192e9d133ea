//! The plan of one Service.

use crate::model::{EndpointSlice, IpFamily, Problem, Protocol, Service, ServicePort};

use super::endpoints::endpoints;
use super::frontends::Addresses;
use super::paths::{cluster_ip_paths, external_paths};
use super::record::{Lists, closed_to_outside};
use super::{
    EndpointState, PlanConfig, PlannedServicePort, RecordRole, ServicePlan, ServicePortKey, ThisNode,
};

/// What a Service should have in the maps, given the slices that name it (in the order of their names, so that the same
/// cluster always gives the same plan).
///
/// Every port exists once in each family that has a cluster IP (S6). A Service that is excluded has nothing (S45). SCTP
/// ports have nothing either, with a warning: the datapath does not carry SCTP yet. Nor have external addresses where they are
/// switched off.
#[must_use]
pub fn plan_service(
    service: &Service,
    slices: &[&EndpointSlice],
    node: &ThisNode,
    config: &PlanConfig,
) -> ServicePlan {
    let mut plan = ServicePlan {
        created: service.created,
        ..ServicePlan::default()
    };
    if service.excluded {
        return plan;
    }
    plan.warnings = unsupported_ports(service);
    plan.warnings.extend(refused_external_ips(service, config));
    for family in IpFamily::ALL {
        let Some(addresses) = Addresses::of(service, family, node, config, &mut plan.warnings) else {
            continue;
        };
        let served = service
            .ports
            .iter()
            .filter(|port| port.protocol != Protocol::Sctp);
        let mut ports: Vec<PlannedServicePort> = served
            .map(|port| plan_port(service, port, family, &addresses, slices, node, config))
            .collect();
        ports.sort_by(|a, b| a.key.cmp(&b.key));
        // One of the ports stands for the addresses as a whole.
        if let Some(first) = ports.first_mut() {
            first.frontends.extend(addresses.of_unknown_ports(node));
        }
        plan.ports.append(&mut ports);
    }
    plan.ports.sort_by(|a, b| a.key.cmp(&b.key));
    plan.ports.dedup_by(|a, b| a.key == b.key);
    plan
}

fn unsupported_ports(service: &Service) -> Vec<Problem> {
    let ports = service.ports.iter().enumerate();
    ports
        .filter(|(_, port)| port.protocol == Protocol::Sctp)
        .map(|(index, port)| {
            let reason = format!("SCTP is not supported yet: port {} is not served", port.port);
            Problem::new(format!("spec.ports[{index}].protocol"), reason)
        })
        .collect()
}

fn refused_external_ips(service: &Service, config: &PlanConfig) -> Option<Problem> {
    (!config.allow_external_ips && !service.external_ips.is_empty()).then(|| {
        Problem::new(
            "spec.externalIPs",
            "ignored: allowServiceExternalIPs is false in the configuration of xvip",
        )
    })
}

fn plan_port(
    service: &Service,
    port: &ServicePort,
    family: IpFamily,
    addresses: &Addresses,
    slices: &[&EndpointSlice],
    node: &ThisNode,
    config: &PlanConfig,
) -> PlannedServicePort {
    let endpoints = endpoints(slices.iter().copied(), family, &port.name, port.protocol);
    let frontends = addresses.of_port(port);
    let cluster_paths = cluster_ip_paths(service.internal_traffic_policy, config);
    // The policy of external traffic is nobody's concern without an external frontend (S16).
    let external_paths = frontends
        .values()
        .any(|role| matches!(role, RecordRole::External | RecordRole::Restricted))
        .then(|| external_paths(service.external_traffic_policy, config));
    let paths: Vec<_> = std::iter::once(cluster_paths).chain(external_paths).collect();
    let lists = Lists::of(&endpoints, node);
    let cluster = lists.record(cluster_paths);
    PlannedServicePort {
        key: ServicePortKey {
            service: service.key.clone(),
            port_name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
            family,
        },
        frontends,
        cluster: if config.serve_cluster_ips_outside {
            cluster
        } else {
            closed_to_outside(cluster)
        },
        external: external_paths.map(|paths| lists.record(paths)),
        sources: addresses.sources.clone(),
        backends: lists.backends(&endpoints, &paths, node),
        endpoints: endpoints
            .into_iter()
            .map(|(address, endpoint)| {
                let state = EndpointState {
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                };
                (address, state)
            })
            .collect(),
        affinity_seconds: service
            .session_affinity
            .map_or(0, |timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Endpoint, TrafficPolicy};
    use crate::plan::fixtures::{ep, here, service, slice, this_node};
    use crate::plan::{PlannedBackend, PlannedList};

    fn plan(service: &Service, endpoints: &[Endpoint]) -> ServicePlan {
        let slice = slice("web-1", endpoints);
        plan_service(service, &[&slice], &this_node(), &PlanConfig::default())
    }

    /// `list [endpoints] verdict`.
    fn show(list: &PlannedList) -> String {
        let endpoints: Vec<String> = list.endpoints.iter().map(|a| a.ip().to_string()).collect();
        let verdict = if list.endpoints.is_empty() {
            format!(" {:?}", list.when_empty)
        } else {
            String::new()
        };
        format!("{:?} [{}]{verdict}", list.list, endpoints.join(" "))
    }

    #[test]
    fn backends_are_the_endpoints_of_lists_that_a_client_may_get() {
        let mut service = service();
        service.internal_traffic_policy = TrafficPolicy::Local;
        let plan = plan(&service, &[here("10.1.0.1"), ep("10.1.0.2")]);
        let port = &plan.ports[0];
        let backends: Vec<_> = port.backends.iter().map(|(a, b)| (a.to_string(), *b)).collect();
        let expected = PlannedBackend {
            local: true,
            in_cluster_list: false,
            in_local_list: true,
        };
        assert_eq!(backends, [("10.1.0.1:8080".to_owned(), expected)]);
        assert_eq!(port.endpoints.len(), 2, "the states of all are known");
        assert_eq!(port.external, None, "nothing external, no record for it");
    }

    /// S45.
    #[test]
    fn an_excluded_service_has_nothing() {
        let mut service = service();
        service.excluded = true;
        assert!(plan(&service, &[ep("10.1.0.1")]).ports.is_empty());
    }

    #[test]
    fn sctp_ports_are_reported_and_the_others_served() {
        let mut service = service();
        service.ports.push(ServicePort {
            name: "sig".into(),
            protocol: Protocol::Sctp,
            port: 2905,
            node_port: None,
        });
        let plan = plan(&service, &[]);
        assert_eq!(plan.ports.len(), 1);
        assert_eq!(plan.warnings[0].field, "spec.ports[1].protocol");
    }

    /// S24.
    #[test]
    fn one_port_of_a_family_stands_for_unknown_ports() {
        let mut service = service();
        service.ports.push(ServicePort {
            name: "admin".into(),
            protocol: Protocol::Tcp,
            port: 81,
            node_port: None,
        });
        let plan = plan(&service, &[]);
        let unknown = plan.ports.iter().flat_map(|port| port.frontends.values());
        assert_eq!(
            unknown.filter(|role| **role == RecordRole::UnknownPort).count(),
            1
        );
    }

    #[test]
    fn ports_are_in_the_order_of_their_keys_whatever_the_services_own() {
        let mut service = service();
        service.cluster_ips = vec!["10.96.0.10".parse().unwrap(), "fd00::10".parse().unwrap()];
        for (name, port) in [("admin", 81), ("metrics", 82)] {
            service.ports.push(ServicePort {
                name: name.into(),
                port,
                ..service.ports[0].clone()
            });
        }
        let forward = plan(&service, &[]);
        service.ports.reverse();
        assert_eq!(plan(&service, &[]), forward);
        assert_eq!(forward.ports.len(), 6);
        assert!(forward.ports.is_sorted_by_key(|port| &port.key));
    }

    #[test]
    fn a_port_that_stands_twice_counts_once() {
        let mut service = service();
        service.ports.push(service.ports[0].clone());
        assert_eq!(plan(&service, &[]).ports.len(), 1);
    }

    /// S20, switched off.
    #[test]
    fn clients_outside_can_be_kept_from_cluster_ips() {
        let config = PlanConfig {
            serve_cluster_ips_outside: false,
            ..PlanConfig::default()
        };
        let slice = slice("web-1", &[ep("10.1.0.1")]);
        let plan = plan_service(&service(), &[&slice], &this_node(), &config);
        assert_eq!(show(&plan.ports[0].cluster.inside), "Cluster [10.1.0.1]");
        assert_eq!(show(&plan.ports[0].cluster.outside), "Cluster [] Drop");
    }

    /// S32.
    #[test]
    fn affinity_is_carried_in_seconds() {
        let mut service = service();
        service.session_affinity = Some(Duration::from_secs(90));
        assert_eq!(plan(&service, &[]).ports[0].affinity_seconds, 90);
    }

    #[test]
    fn external_addresses_that_are_switched_off_are_a_warning() {
        let config = PlanConfig {
            allow_external_ips: false,
            ..PlanConfig::default()
        };
        let mut service = service();
        assert_eq!(plan_service(&service, &[], &this_node(), &config).warnings, []);
        service.external_ips = vec!["192.0.2.10".parse().unwrap()];
        let warnings = plan_service(&service, &[], &this_node(), &config).warnings;
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].field, "spec.externalIPs");
        let allowed = PlanConfig::default();
        assert_eq!(plan_service(&service, &[], &this_node(), &allowed).warnings, []);
    }
}
