//! The table of `docs/semantics.md` ("Which list for whom, and whose address the endpoint sees"), held against plans: the document
//! itself is the expectation.
//!
//! Which clients are inside is no matter of plans: a plan is the same with `clusterCIDRs` and without.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use lb_common::frontend::FrontendKey;

use crate::model::{Endpoint, IpFamily, Service, TrafficPolicy};

use super::EndpointList::{Cluster, Local};
use super::fixtures::{ep, here, service, slice, this_node};
use super::{
    EmptyVerdict, EndpointList, PlanConfig, PlannedRecord, PlannedServicePort, RecordRole, SourceAddress,
    plan_service,
};

const SEMANTICS: &str = include_str!("../../../docs/semantics.md");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Pod,
    Node,
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    ClusterIp,
    External,
}

/// A cell, read: who calls what under which policy, and what is due.
#[derive(Clone, Copy, Debug)]
struct Cell {
    client: Client,
    destination: Destination,
    policy: TrafficPolicy,
    list: EndpointList,
    rewritten: bool,
}

fn cells() -> Vec<Cell> {
    let columns = [
        (Destination::ClusterIp, TrafficPolicy::Cluster),
        (Destination::ClusterIp, TrafficPolicy::Local),
        (Destination::External, TrafficPolicy::Cluster),
        (Destination::External, TrafficPolicy::Local),
    ];
    let clients = [
        ("| a pod of this cluster |", Client::Pod),
        ("| this node itself |", Client::Node),
        ("| outside |", Client::Outside),
    ];
    let rows = clients.iter().flat_map(|(head, client)| {
        let row = SEMANTICS.lines().find_map(|line| line.strip_prefix(head));
        let cells = row.expect("the row is there").split_terminator('|');
        let cells: Vec<&str> = cells.map(|cell| cell.trim().trim_matches('*')).collect();
        assert_eq!(cells.len(), columns.len(), "{head}");
        cells
            .into_iter()
            .zip(columns)
            .map(|(cell, (destination, policy))| {
                let (list, source) = cell.split_once(" list, ").expect("list and source");
                Cell {
                    client: *client,
                    destination,
                    policy,
                    list: match list {
                        "cluster" => Cluster,
                        "local" => Local,
                        other => panic!("no list: {other}"),
                    },
                    rewritten: match source {
                        "rewritten" => true,
                        "kept" => false,
                        other => panic!("neither kept nor rewritten: {other}"),
                    },
                }
            })
            .collect::<Vec<_>>()
    });
    rows.collect()
}

/// `shop/web` in both families, reached by every kind of address.
fn everywhere(policy: TrafficPolicy) -> Service {
    let addresses = |texts: [&str; 2]| -> Vec<IpAddr> { texts.map(|text| text.parse().unwrap()).into() };
    let mut service = service();
    service.cluster_ips = addresses(["10.96.0.10", "fd00::10"]);
    service.external_ips = addresses(["192.0.2.10", "2001:db8::10"]);
    service.load_balancer_vips = addresses(["198.51.100.5", "2001:db8:2::5"]);
    service.ports[0].node_port = Some(30080);
    service.internal_traffic_policy = policy;
    service.external_traffic_policy = policy;
    service
}

/// An endpoint of this node, and one of another.
fn near_and_far(family: IpFamily) -> [Endpoint; 2] {
    match family {
        IpFamily::V4 => [here("10.1.0.1"), ep("10.1.0.2")],
        IpFamily::V6 => [here("fd00:1::1"), ep("fd00:1::2")],
    }
}

fn plan(
    service: &Service,
    family: IpFamily,
    endpoints: &[Endpoint],
    config: &PlanConfig,
) -> PlannedServicePort {
    let mut slice = slice("web-1", endpoints);
    slice.family = family;
    let plan = plan_service(service, &[&slice], &this_node(), config);
    let mut ports = plan.ports.into_iter().filter(|port| port.key.family == family);
    let port = ports.next().unwrap();
    assert_eq!(ports.next(), None);
    port
}

/// The records that the frontends of a destination name.
fn records(port: &PlannedServicePort, destination: Destination) -> Vec<(&FrontendKey, &PlannedRecord)> {
    let records = port.frontends.iter().filter_map(|(key, role)| match role {
        RecordRole::Cluster => Some((Destination::ClusterIp, key, &port.cluster)),
        RecordRole::External | RecordRole::Restricted => {
            Some((Destination::External, key, port.external.as_ref().unwrap()))
        }
        RecordRole::UnknownPort => None,
    });
    records
        .filter(|(of, _, _)| *of == destination)
        .map(|(_, key, record)| (key, record))
        .collect()
}

/// What a record says of a client.
fn says(record: &PlannedRecord, client: Client) -> String {
    let (list, rewritten) = match client {
        Client::Pod => (&record.inside, record.rewrite.pod),
        Client::Node => (&record.inside, record.rewrite.node),
        Client::Outside => (&record.outside, record.rewrite.outside),
    };
    let mut text = format!("{:?}", list.list);
    for address in &list.endpoints {
        let _ = write!(text, " {address}");
    }
    if list.endpoints.is_empty() {
        let _ = write!(text, " {:?}", list.when_empty);
    }
    let _ = write!(text, ", {}", if rewritten { "rewritten" } else { "as it comes" });
    text
}

/// What it has to say: the cell, and whose source the configuration has rewritten whatever backend is chosen. One that is
/// rewritten for the backend's sake (S17, S18) is the datapath's.
fn due(cell: &Cell, endpoints: &[Endpoint], config: &PlanConfig) -> String {
    let usable: Vec<&Endpoint> = match cell.list {
        Cluster => endpoints.iter().collect(),
        Local => endpoints
            .iter()
            .filter(|endpoint| endpoint.node_name == Some(this_node().name))
            .collect(),
    };
    let mut text = format!("{:?}", cell.list);
    for endpoint in &usable {
        let _ = write!(text, " {}", SocketAddr::new(endpoint.address, 8080));
    }
    if usable.is_empty() {
        let verdict = if endpoints.is_empty() {
            EmptyVerdict::Reject
        } else {
            EmptyVerdict::Drop
        };
        let _ = write!(text, " {verdict:?}");
    }
    let pods_too =
        config.masquerade_all && cell.client == Client::Pod && cell.destination == Destination::ClusterIp;
    let rewritten = match config.source_address {
        SourceAddress::KubeProxy => cell.rewritten || pods_too,
        SourceAddress::Preserve => cell.client == Client::Node || pods_too,
    };
    let _ = write!(text, ", {}", if rewritten { "rewritten" } else { "as it comes" });
    text
}

fn check(source_address: SourceAddress, masquerade_all: bool) {
    let config = PlanConfig {
        source_address,
        masquerade_all,
        ..PlanConfig::default()
    };
    let mut frontends = 0;
    for cell in cells() {
        let service = everywhere(cell.policy);
        for family in IpFamily::ALL {
            let [near, far] = near_and_far(family);
            let sets: [&[Endpoint]; 4] = [
                &[near.clone(), far.clone()],
                std::slice::from_ref(&near),
                std::slice::from_ref(&far),
                &[],
            ];
            for endpoints in sets {
                let port = plan(&service, family, endpoints, &config);
                for (key, record) in records(&port, cell.destination) {
                    assert_eq!(
                        says(record, cell.client),
                        due(&cell, endpoints, &config),
                        "{cell:?}, {key:?}, {} endpoints, {config:?}",
                        endpoints.len()
                    );
                    frontends += 1;
                }
            }
        }
    }
    // 3 clients, 2 policies, 2 families, 4 sets of endpoints, at a cluster IP, an external, a load-balancer address and a node port.
    assert_eq!(frontends, 3 * 2 * 2 * 4 * (1 + 3));
}

/// S16, S17, S21, S22: without rewriting but for this node itself, as long as the backend does not ask for it.
#[test]
fn every_cell_with_sources_kept_where_they_can_be() {
    check(SourceAddress::Preserve, false);
}

/// S16, S17, S21, S22: `sourceAddress: kube-proxy` follows the table to the letter.
#[test]
fn every_cell_as_kube_proxy_has_it() {
    check(SourceAddress::KubeProxy, false);
}

/// S17: `masqueradeAll` takes the address from pods, at cluster IPs alone.
#[test]
fn every_cell_with_masquerade_all() {
    check(SourceAddress::Preserve, true);
    check(SourceAddress::KubeProxy, true);
}

/// S20.
#[test]
fn cluster_ips_serve_clients_outside_by_the_list_of_clients_inside() {
    for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
        for family in IpFamily::ALL {
            let endpoints = near_and_far(family);
            let port = plan(&everywhere(policy), family, &endpoints, &PlanConfig::default());
            assert!(!port.cluster.outside.endpoints.is_empty());
            assert_eq!(port.cluster.outside, port.cluster.inside);
        }
    }
}

/// S16: each policy is that of its own kind of address.
#[test]
fn the_two_policies_do_not_mix() {
    use TrafficPolicy as Policy;
    for (internal, external, at_cluster_ip, at_external) in [
        (Policy::Cluster, Policy::Local, Cluster, Local),
        (Policy::Local, Policy::Cluster, Local, Cluster),
    ] {
        for family in IpFamily::ALL {
            let mut service = everywhere(internal);
            service.external_traffic_policy = external;
            let port = plan(&service, family, &near_and_far(family), &PlanConfig::default());
            assert_eq!(port.cluster.outside.list, at_cluster_ip);
            assert_eq!(port.external.unwrap().outside.list, at_external);
        }
    }
}
