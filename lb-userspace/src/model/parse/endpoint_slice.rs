//! An EndpointSlice: S2, S3, S4.

use std::collections::BTreeSet;
use std::time::SystemTime;

use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::jiff::Timestamp;

use super::{Parsed, SERVICE_NAME_LABEL, ignored_address, name_problems, object_ref, port_number, protocol};
use crate::model::{
    Endpoint, EndpointSlice, IpFamily, Problem, Rejection, ServiceKey, Skip, SliceKey, SlicePort,
    parse_ip_sloppy,
};

/// Written by the controller of EndpointSlices; absent when nothing but the slice itself changed.
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

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
            triggered: triggered(object),
        },
        warnings,
    })
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
        zone_hints: zones.iter().map(|hint| hint.name.clone()).collect(),
        node_hints: nodes.iter().map(|hint| hint.name.clone()).collect(),
    })
}

/// The annotation is for measurements only: one that cannot be read is as good as none.
fn triggered(object: &discovery::EndpointSlice) -> Option<SystemTime> {
    let annotations = object.metadata.annotations.as_ref()?;
    let time: Timestamp = annotations.get(TRIGGER_ANNOTATION)?.parse().ok()?;
    Some(time.into())
}
