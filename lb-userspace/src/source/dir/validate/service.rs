//! The rules of a Service.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::{address, family_named, names, one_of, ordinary_address, port};
use crate::model::parse::{self, AFFINITY_TIMEOUT_RANGE, NOT_AN_ADDRESS};
use crate::model::{IpFamily, Problem, parse_net_sloppy};

/// Everything that is wrong with a Service that has its defaults.
pub(in crate::source::dir) fn service(service: &v1::Service) -> Vec<Problem> {
    let mut problems = Vec::new();
    let empty = v1::ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    names::metadata(&service.metadata, true, &mut problems);
    one_of(
        "spec.type",
        spec.type_.as_deref(),
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        &mut problems,
    );
    ports(spec, &mut problems);
    affinity(spec, &mut problems);
    cluster_ips(spec, &mut problems);
    families(spec, &mut problems);
    external_ips(spec, &mut problems);
    external_name(spec, &mut problems);
    policies(spec, &mut problems);
    load_balancer(service, spec, &mut problems);
    problems
}

fn type_of(spec: &v1::ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn is_headless(spec: &v1::ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

fn ports(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && type_of(spec) != "ExternalName" {
        problems.push(Problem::required("spec.ports"));
    }
    let mut seen_names = BTreeSet::new();
    let mut seen_ports = BTreeSet::new();
    let mut seen_node_ports = BTreeSet::new();
    for (index, object) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}].{field}");
        let protocol = object.protocol.as_deref().unwrap_or("TCP");
        match object.name.as_deref() {
            None | Some("") if ports.len() > 1 => problems.push(Problem::required(at("name"))),
            None | Some("") => {}
            Some(name) => {
                names::label(&at("name"), name, problems);
                if !seen_names.insert(name) {
                    problems.push(Problem::duplicate(at("name"), name));
                }
            }
        }
        port(&at("port"), object.port, problems);
        one_of(&at("protocol"), Some(protocol), &["SCTP", "TCP", "UDP"], problems);
        match &object.target_port {
            Some(IntOrString::Int(number)) => port(&at("targetPort"), *number, problems),
            Some(IntOrString::String(name)) => names::service_name(&at("targetPort"), name, problems),
            None => {}
        }
        if !seen_ports.insert((protocol, object.port)) {
            let value = json!({ "protocol": protocol, "port": object.port });
            problems.push(Problem::duplicate(format!("spec.ports[{index}]"), value));
        }
        let Some(node_port) = object.node_port.filter(|&number| number != 0) else {
            continue;
        };
        if matches!(type_of(spec), "ClusterIP" | "ExternalName") {
            let why = format!("may not be used when `type` is '{}'", type_of(spec));
            problems.push(Problem::forbidden(at("nodePort"), &why));
        } else if !seen_node_ports.insert((protocol, node_port)) {
            let value = json!({ "protocol": protocol, "nodePort": node_port });
            problems.push(Problem::duplicate(at("nodePort"), value));
        }
    }
}

fn affinity(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    one_of(
        "spec.sessionAffinity",
        spec.session_affinity.as_deref(),
        &["ClientIP", "None"],
        problems,
    );
    match (spec.session_affinity.as_deref(), &spec.session_affinity_config) {
        (Some("ClientIP"), Some(config)) => {
            let seconds = config
                .client_ip
                .as_ref()
                .and_then(|client_ip| client_ip.timeout_seconds);
            if let Some(seconds) = seconds.filter(|seconds| !(1..=86_400).contains(seconds)) {
                let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
                problems.push(Problem::invalid(field, seconds, AFFINITY_TIMEOUT_RANGE));
            }
        }
        (Some("None") | None, Some(_)) => problems.push(Problem::forbidden(
            "spec.sessionAffinityConfig",
            "must not be set when session affinity is None",
        )),
        _ => {}
    }
}

fn cluster_ips(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let single = spec.cluster_ip.as_deref().unwrap_or_default();
    if type_of(spec) == "ExternalName" {
        if !single.is_empty() || !listed.is_empty() {
            problems.push(Problem::forbidden(
                "spec.clusterIPs",
                "may not be set when `type` is 'ExternalName'",
            ));
        }
        return;
    }
    let field = "spec.clusterIPs";
    if single.is_empty() && !listed.is_empty() {
        problems.push(Problem::invalid(
            field,
            listed,
            "must be empty when `clusterIP` is not specified",
        ));
    }
    if !single.is_empty() && listed.first().is_some_and(|first| first != single) {
        problems.push(Problem::invalid(
            format!("{field}[0]"),
            listed,
            "must match `clusterIP`",
        ));
    }
    if listed.len() > 2 {
        problems.push(Problem::invalid(field, listed, "may only hold up to 2 values"));
    }
    let single = [single.to_owned()];
    let effective = if listed.is_empty() { &single[..] } else { listed };
    let mut families = Vec::new();
    for (index, text) in effective.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
        let at = format!("{field}[{index}]");
        if text == "None" {
            headless(spec, index, effective, problems);
        } else if let Some(ip) = address(text) {
            families.push(IpFamily::of(ip));
            expect_family(spec, &at, index, text, IpFamily::of(ip), problems);
        } else {
            problems.push(Problem::invalid(at, text, NOT_AN_ADDRESS));
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family";
        problems.push(Problem::invalid(field, effective, why));
    }
}

fn headless(spec: &v1::ServiceSpec, index: usize, texts: &[String], problems: &mut Vec<Problem>) {
    if index > 0 || texts.len() > 1 {
        let why = "may not be set to 'None' when other values are specified";
        problems.push(Problem::invalid(format!("spec.clusterIPs[{index}]"), "None", why));
    }
    if matches!(type_of(spec), "NodePort" | "LoadBalancer") {
        let why = format!("may not be set to 'None' for {} services", type_of(spec));
        problems.push(Problem::invalid("spec.clusterIPs[0]", "None", &why));
    }
}

fn expect_family(
    spec: &v1::ServiceSpec,
    at: &str,
    index: usize,
    text: &str,
    family: IpFamily,
    problems: &mut Vec<Problem>,
) {
    let stated = spec
        .ip_families
        .as_deref()
        .and_then(|families| families.get(index));
    if let Some(stated) = stated.and_then(|stated| family_named(stated))
        && stated != family
    {
        let why = format!("expected an {stated} value as indicated by `ipFamilies[{index}]`");
        problems.push(Problem::invalid(at, text, &why));
    }
}

fn families(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if type_of(spec) == "ExternalName" {
        let why = "may not be set when `type` is 'ExternalName'";
        if spec.ip_family_policy.is_some() {
            problems.push(Problem::forbidden("spec.ipFamilyPolicy", why));
        }
        if !families.is_empty() {
            problems.push(Problem::forbidden("spec.ipFamilies", why));
        }
        return;
    }
    one_of(
        "spec.ipFamilyPolicy",
        spec.ip_family_policy.as_deref(),
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
        problems,
    );
    if families.len() > 2 {
        problems.push(Problem::invalid(
            "spec.ipFamilies",
            families,
            "may only hold up to 2 values",
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        one_of(&field, Some(family), &["IPv4", "IPv6"], problems);
        if !seen.insert(family) {
            problems.push(Problem::duplicate(field, family));
        }
    }
}

fn external_ips(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        ordinary_address(&format!("spec.externalIPs[{index}]"), text, problems);
    }
}

fn external_name(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    if type_of(spec) != "ExternalName" {
        return;
    }
    match spec
        .external_name
        .as_deref()
        .map(|name| name.trim_end_matches('.'))
    {
        None | Some("") => problems.push(Problem::required("spec.externalName")),
        Some(name) => names::subdomain("spec.externalName", name, problems),
    }
}

fn policies(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    let local = ["Cluster", "Local"];
    one_of(
        "spec.internalTrafficPolicy",
        spec.internal_traffic_policy.as_deref(),
        &local,
        problems,
    );
    let external = spec.external_traffic_policy.as_deref();
    if let Some(policy) = external {
        let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
        let accessible = matches!(type_of(spec), "NodePort" | "LoadBalancer") || has_external_ips;
        if accessible {
            one_of("spec.externalTrafficPolicy", external, &local, problems);
        } else {
            let why = "may only be set for externally-accessible services";
            problems.push(Problem::invalid("spec.externalTrafficPolicy", policy, why));
        }
    }
    if let Some(number) = spec.health_check_node_port.filter(|&number| number != 0) {
        let field = "spec.healthCheckNodePort";
        if type_of(spec) == "LoadBalancer" && external == Some("Local") {
            port(field, number, problems);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            problems.push(Problem::invalid(field, number, why));
        }
    }
}

fn load_balancer(service: &v1::Service, spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) {
    let is_load_balancer = type_of(spec) == "LoadBalancer";
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !is_load_balancer {
        let why = "may only be used when `type` is 'LoadBalancer'";
        if !ranges.is_empty() {
            problems.push(Problem::forbidden("spec.LoadBalancerSourceRanges", why));
        }
        if spec.allocate_load_balancer_node_ports.is_some() {
            problems.push(Problem::forbidden("spec.allocateLoadBalancerNodePorts", why));
        }
        if spec.load_balancer_class.is_some() {
            problems.push(Problem::forbidden("spec.loadBalancerClass", why));
        }
    }
    for (index, text) in ranges
        .iter()
        .enumerate()
        .filter(|(_, text)| parse_net_sloppy(text).is_none())
    {
        problems.push(Problem::invalid(
            format!("spec.LoadBalancerSourceRanges[{index}]"),
            text,
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ));
    }
    let ingress = parse::ingress(service);
    if !is_load_balancer && !ingress.is_empty() {
        let why = "may only be used when `spec.type` is LoadBalancer";
        problems.push(Problem::forbidden("status.loadBalancer.ingress", why));
    }
    for (index, entry) in ingress.iter().enumerate() {
        let at = |field: &str| format!("status.loadBalancer.ingress[{index}].{field}");
        if let Some(text) = entry
            .ip
            .as_deref()
            .filter(|text| !text.is_empty() && address(text).is_none())
        {
            problems.push(Problem::invalid(at("ip"), text, NOT_AN_ADDRESS));
        }
        one_of(
            &at("ipMode"),
            entry.ip_mode.as_deref(),
            &["Proxy", "VIP"],
            problems,
        );
    }
}
