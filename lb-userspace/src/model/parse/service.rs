//! A Service: S1, S7, S8, S26.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::{
    AFFINITY_TIMEOUT_RANGE, NOT_AN_ADDRESS, Parsed, ignored_address, name_problems, object_ref, port_number,
    protocol,
};
use crate::model::{
    DEFAULT_AFFINITY_TIMEOUT, IpFamily, Problem, Rejection, Service, ServiceKey, ServicePort, ServiceType,
    Skip, TrafficPolicy, parse_ip_sloppy, parse_net_sloppy,
};

const EXCLUDE_ANNOTATION: &str = "xvip.dev/exclude";

const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// A Service, by S1, S7, S8 and S26.
///
/// # Errors
/// The object holds a value the API server would never have stored.
pub fn service(object: &v1::Service) -> Result<Parsed<Service>, Rejection> {
    let reference = object_ref("Service", &object.metadata);
    let empty = v1::ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);
    if let Some(skip) = service_skip(&object.metadata, spec) {
        return Ok(Parsed::Skipped(skip));
    }
    let mut problems = name_problems(&object.metadata);
    let mut warnings = Vec::new();

    let service_type = match spec.type_.as_deref() {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some(other) => {
            problems.push(Problem::unsupported(
                "spec.type",
                other,
                &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
            ));
            ServiceType::ClusterIp
        }
    };
    let cluster_ips = cluster_ips(spec, &mut problems);
    let ports = service_ports(spec, service_type, &mut problems);
    let internal_traffic_policy = traffic_policy(
        "spec.internalTrafficPolicy",
        spec.internal_traffic_policy.as_deref(),
        &mut problems,
    );
    let external_traffic_policy = traffic_policy(
        "spec.externalTrafficPolicy",
        spec.external_traffic_policy.as_deref(),
        &mut problems,
    );
    let session_affinity = session_affinity(spec, &mut problems);
    let health_check_node_port = match spec.health_check_node_port {
        Some(port)
            if port != 0
                && service_type == ServiceType::LoadBalancer
                && external_traffic_policy == TrafficPolicy::Local =>
        {
            port_number("spec.healthCheckNodePort", port, &mut problems)
        }
        _ => None,
    };
    if !problems.is_empty() {
        return Err(Rejection {
            object: reference,
            problems,
        });
    }
    let value = Service {
        key: ServiceKey::new(reference.namespace, reference.name),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        service_type,
        cluster_ips,
        ports,
        external_ips: external_ips(spec, &mut warnings),
        load_balancer_vips: load_balancer_vips(object, &mut warnings),
        load_balancer_source_ranges: source_ranges(spec, &mut warnings),
        internal_traffic_policy,
        external_traffic_policy,
        session_affinity,
        health_check_node_port,
        created: object.metadata.creation_timestamp.as_ref().map(created),
        excluded: is_set(object.metadata.annotations.as_ref(), EXCLUDE_ANNOTATION),
    };
    Ok(Parsed::Accepted { value, warnings })
}

fn service_skip(metadata: &ObjectMeta, spec: &v1::ServiceSpec) -> Option<Skip> {
    if let Some(name) = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(PROXY_NAME_LABEL))
    {
        return Some(Skip::OtherProxy(name.clone()));
    }
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(Skip::ExternalName);
    }
    match spec.cluster_ip.as_deref() {
        Some("None") => Some(Skip::Headless),
        None | Some("") => Some(Skip::NoClusterIp),
        Some(_) => None,
    }
}

fn cluster_ips(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.as_deref().filter(|listed| !listed.is_empty());
    let texts = listed.unwrap_or(spec.cluster_ip.as_slice());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let field = format!("spec.clusterIPs[{index}]");
        match parse_ip_sloppy(text) {
            None => problems.push(Problem::invalid(field, text, NOT_AN_ADDRESS)),
            Some(ip)
                if addresses
                    .iter()
                    .any(|&other| IpFamily::of(other) == IpFamily::of(ip)) =>
            {
                problems.push(Problem::invalid(field, text, "a second address of one family"));
            }
            Some(ip) => addresses.push(ip),
        }
    }
    addresses
}

fn service_ports(
    spec: &v1::ServiceSpec,
    service_type: ServiceType,
    problems: &mut Vec<Problem>,
) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for (index, object) in spec.ports.iter().flatten().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}].{field}");
        let port = port_number(&at("port"), object.port, problems);
        let node_port = match object.node_port {
            Some(number) if number != 0 && service_type != ServiceType::ClusterIp => {
                port_number(&at("nodePort"), number, problems)
            }
            _ => None,
        };
        let protocol = protocol(&at("protocol"), object.protocol.as_deref(), problems);
        if let (Some(port), Some(protocol)) = (port, protocol) {
            ports.push(ServicePort {
                name: object.name.clone().unwrap_or_default(),
                protocol,
                port,
                node_port,
            });
        }
    }
    ports
}

fn session_affinity(spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) -> Option<Duration> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => {
            let configured = spec
                .session_affinity_config
                .as_ref()
                .and_then(|config| config.client_ip.as_ref());
            let Some(seconds) = configured.and_then(|client_ip| client_ip.timeout_seconds) else {
                return Some(DEFAULT_AFFINITY_TIMEOUT);
            };
            match u64::try_from(seconds) {
                Ok(seconds @ 1..=86_400) => Some(Duration::from_secs(seconds)),
                _ => {
                    problems.push(Problem::invalid(
                        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                        seconds,
                        AFFINITY_TIMEOUT_RANGE,
                    ));
                    None
                }
            }
        }
        Some(other) => {
            problems.push(Problem::unsupported(
                "spec.sessionAffinity",
                other,
                &["ClientIP", "None"],
            ));
            None
        }
    }
}

fn external_ips(spec: &v1::ServiceSpec, warnings: &mut Vec<Problem>) -> Vec<IpAddr> {
    let texts = spec.external_ips.iter().flatten().enumerate();
    let parsed = texts.filter_map(|(index, text)| {
        let address = parse_ip_sloppy(text);
        if address.is_none() {
            warnings.push(ignored_address(format!("spec.externalIPs[{index}]"), text));
        }
        address
    });
    parsed.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The addresses its status names.
pub fn ingress(object: &v1::Service) -> &[v1::LoadBalancerIngress] {
    let status = object.status.as_ref();
    let load_balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = load_balancer.and_then(|load_balancer| load_balancer.ingress.as_deref());
    ingress.unwrap_or_default()
}

fn load_balancer_vips(object: &v1::Service, warnings: &mut Vec<Problem>) -> Vec<IpAddr> {
    let mut vips = BTreeSet::new();
    for (index, entry) in ingress(object).iter().enumerate() {
        let Some(text) = entry.ip.as_deref().filter(|text| !text.is_empty()) else {
            continue;
        };
        if !matches!(entry.ip_mode.as_deref(), None | Some("VIP")) {
            continue;
        }
        match parse_ip_sloppy(text) {
            Some(ip) => {
                vips.insert(ip);
            }
            None => warnings.push(ignored_address(
                format!("status.loadBalancer.ingress[{index}].ip"),
                text,
            )),
        }
    }
    vips.into_iter().collect()
}

fn source_ranges(spec: &v1::ServiceSpec, warnings: &mut Vec<Problem>) -> Vec<IpNet> {
    let texts = spec.load_balancer_source_ranges.iter().flatten().enumerate();
    let parsed = texts.filter_map(|(index, text)| {
        let range = parse_net_sloppy(text);
        if range.is_none() {
            let field = format!("spec.loadBalancerSourceRanges[{index}]");
            warnings.push(Problem::new(
                field,
                format!("ignored: {text:?} is not a valid CIDR value"),
            ));
        }
        range
    });
    parsed.collect::<BTreeSet<_>>().into_iter().collect()
}

fn traffic_policy(field: &str, text: Option<&str>, problems: &mut Vec<Problem>) -> TrafficPolicy {
    match text {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            problems.push(Problem::unsupported(field, other, &["Cluster", "Local"]));
            TrafficPolicy::Cluster
        }
    }
}

/// Creation times have whole seconds; one before 1970 counts as 1970.
fn created(time: &Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.0.as_second()).unwrap_or_default())
}

fn is_set(annotations: Option<&BTreeMap<String, String>>, name: &str) -> bool {
    annotations
        .and_then(|annotations| annotations.get(name))
        .is_some_and(|value| value == "true")
}
