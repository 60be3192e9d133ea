//! From the API's objects to the domain types: parse or report.
//!
//! An object is accepted with warnings about the parts that are ignored, skipped because it is none of the
//! proxy's business, or refused whole. Objects are expected as the API server stores them, defaults
//! applied; absent optional fields are read as their defaults all the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::model::{
    DEFAULT_AFFINITY_TIMEOUT, Endpoint, EndpointSlice, IpFamily, Node, ObjectRef, Problem, Protocol,
    Rejection, Service, ServiceKey, ServicePort, ServiceType, Skip, SliceKey, SlicePort, TOPOLOGY_ZONE_LABEL,
    TrafficPolicy, parse_ip_sloppy, parse_net_sloppy,
};

const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The label that joins an EndpointSlice to its Service (S2).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const EXCLUDE_ANNOTATION: &str = "xvip.dev/exclude";

/// The API server's words about a text that is no address.
pub const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// The API server's words about a number that is no port.
pub const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
/// The API server's words about an affinity timeout (86400 itself is allowed all the same).
pub const AFFINITY_TIMEOUT_RANGE: &str = "must be greater than 0 and less than 86400";

/// What became of a well-formed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// It is used; the warnings name parts of it that are not.
    Accepted {
        /// The domain object.
        value: T,
        /// Ignored parts.
        warnings: Vec<Problem>,
    },
    /// It is none of the proxy's business.
    Skipped(Skip),
}

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

/// An EndpointSlice, by S2, S3 and S4.
///
/// # Errors
/// The object holds a value the API server would never have stored.
pub fn endpoint_slice(object: &discovery::EndpointSlice) -> Result<Parsed<EndpointSlice>, Rejection> {
    let reference = object_ref("EndpointSlice", &object.metadata);
    let labels = object.metadata.labels.as_ref();
    if labels.is_some_and(|labels| labels.contains_key(HEADLESS_LABEL)) {
        return Ok(Parsed::Skipped(Skip::HeadlessSlice));
    }
    let Some(service) = labels
        .and_then(|labels| labels.get(SERVICE_NAME_LABEL))
        .filter(|name| !name.is_empty())
    else {
        return Ok(Parsed::Skipped(Skip::NoServiceLabel));
    };
    let mut problems = name_problems(&object.metadata);
    let family = match object.address_type.as_str() {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        "FQDN" => return Ok(Parsed::Skipped(Skip::Fqdn)),
        other => {
            problems.push(Problem::unsupported(
                "addressType",
                other,
                &["FQDN", "IPv4", "IPv6"],
            ));
            IpFamily::V4
        }
    };
    let ports = slice_ports(object, &mut problems);
    if !problems.is_empty() {
        return Err(Rejection {
            object: reference,
            problems,
        });
    }
    let mut warnings = Vec::new();
    let endpoints = object
        .endpoints
        .iter()
        .enumerate()
        .filter_map(|(index, object)| endpoint(index, object, family, &mut warnings))
        .collect();
    let service = ServiceKey::new(reference.namespace.clone(), service.clone());
    let key = SliceKey::new(reference.namespace, reference.name);
    Ok(Parsed::Accepted {
        value: EndpointSlice {
            key,
            service,
            family,
            ports,
            endpoints,
        },
        warnings,
    })
}

/// A Node, by S10 and S30.
///
/// # Errors
/// The object has no name.
pub fn node(object: &v1::Node) -> Result<Parsed<Node>, Rejection> {
    let name = object.metadata.name.clone().unwrap_or_default();
    if name.is_empty() {
        let problems = vec![Problem::required("metadata.name")];
        return Err(Rejection {
            object: ObjectRef::new("Node", "", ""),
            problems,
        });
    }
    let mut warnings = Vec::new();
    let mut internal_ips = Vec::new();
    let addresses = object
        .status
        .as_ref()
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    for (index, address) in addresses
        .iter()
        .enumerate()
        .filter(|(_, address)| address.type_ == "InternalIP")
    {
        let field = format!("status.addresses[{index}].address");
        match parse_ip_sloppy(&address.address) {
            Some(ip) if !internal_ips.contains(&ip) => internal_ips.push(ip),
            Some(_) => {}
            None => warnings.push(ignored_address(field, &address.address)),
        }
    }
    let labels = object.metadata.labels.clone().unwrap_or_default();
    let zone = labels
        .get(TOPOLOGY_ZONE_LABEL)
        .filter(|zone| !zone.is_empty())
        .cloned();
    Ok(Parsed::Accepted {
        value: Node {
            name,
            zone,
            internal_ips,
            labels,
        },
        warnings,
    })
}

/// Names an object, an absent namespace being `default`.
#[must_use]
pub fn object_ref(kind: &str, metadata: &ObjectMeta) -> ObjectRef {
    let namespace = metadata
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or("default");
    ObjectRef::new(kind, namespace, metadata.name.clone().unwrap_or_default())
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

fn name_problems(metadata: &ObjectMeta) -> Vec<Problem> {
    match metadata.name.as_deref() {
        None | Some("") => vec![Problem::required("metadata.name")],
        Some(_) => Vec::new(),
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

fn load_balancer_vips(object: &v1::Service, warnings: &mut Vec<Problem>) -> Vec<IpAddr> {
    let status = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status
        .and_then(|status| status.ingress.as_deref())
        .unwrap_or_default();
    let mut vips = BTreeSet::new();
    for (index, entry) in ingress.iter().enumerate() {
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

fn slice_ports(object: &discovery::EndpointSlice, problems: &mut Vec<Problem>) -> Vec<SlicePort> {
    let mut ports = BTreeSet::new();
    for (index, object) in object.ports.iter().flatten().enumerate() {
        // S4. An API server defaults an absent name to "", so nil really is "no port".
        let (Some(name), Some(number)) = (&object.name, object.port.filter(|&number| number != 0)) else {
            continue;
        };
        let port = port_number(&format!("ports[{index}].port"), number, problems);
        let protocol = protocol(
            &format!("ports[{index}].protocol"),
            object.protocol.as_deref(),
            problems,
        );
        if let (Some(port), Some(protocol)) = (port, protocol) {
            ports.insert(SlicePort {
                name: name.clone(),
                protocol,
                port,
            });
        }
    }
    ports.into_iter().collect()
}

fn endpoint(
    index: usize,
    object: &discovery::Endpoint,
    family: IpFamily,
    warnings: &mut Vec<Problem>,
) -> Option<Endpoint> {
    let text = object.addresses.first()?;
    let field = format!("endpoints[{index}].addresses[0]");
    let address = match parse_ip_sloppy(text) {
        Some(address) if IpFamily::of(address) == family => address,
        Some(_) => {
            warnings.push(Problem::new(
                field,
                format!("ignored: {text:?} is not an {family} address"),
            ));
            return None;
        }
        None => {
            warnings.push(ignored_address(field, text));
            return None;
        }
    };
    let conditions = object.conditions.clone().unwrap_or_default();
    let hints = object.hints.as_ref();
    let zones = hints
        .and_then(|hints| hints.for_zones.as_deref())
        .unwrap_or_default();
    let nodes = hints
        .and_then(|hints| hints.for_nodes.as_deref())
        .unwrap_or_default();
    Some(Endpoint {
        address,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node_name: object.node_name.clone().filter(|name| !name.is_empty()),
        zone: object.zone.clone().filter(|zone| !zone.is_empty()),
        zone_hints: zones.iter().map(|hint| hint.name.clone()).collect(),
        node_hints: nodes.iter().map(|hint| hint.name.clone()).collect(),
    })
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

fn protocol(field: &str, text: Option<&str>, problems: &mut Vec<Problem>) -> Option<Protocol> {
    let protocol = Protocol::from_api(text);
    if protocol.is_none() {
        problems.push(Problem::unsupported(
            field,
            text.unwrap_or_default(),
            &["SCTP", "TCP", "UDP"],
        ));
    }
    protocol
}

fn port_number(field: &str, number: i32, problems: &mut Vec<Problem>) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Some(port),
        _ => {
            problems.push(Problem::invalid(field, number, PORT_RANGE));
            None
        }
    }
}

fn ignored_address(field: String, text: &str) -> Problem {
    Problem::new(field, format!("ignored: {text:?} is not a valid IP address"))
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
