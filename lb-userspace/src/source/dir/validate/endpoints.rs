//! The rules of EndpointSlices and Endpoints.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;

use super::{address, names, one_of, ordinary_address, port};
use crate::model::{IpFamily, Problem};

/// The most endpoints and ports a slice may hold.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;

/// Everything that is wrong with an EndpointSlice that has its defaults.
pub(in crate::source::dir) fn endpoint_slice(slice: &discovery::EndpointSlice) -> Vec<Problem> {
    let mut problems = Vec::new();
    names::metadata(&slice.metadata, false, &mut problems);
    if slice.address_type.is_empty() {
        problems.push(Problem::required("addressType"));
    } else {
        one_of(
            "addressType",
            Some(&slice.address_type),
            &["FQDN", "IPv4", "IPv6"],
            &mut problems,
        );
    }
    too_many("endpoints", slice.endpoints.len(), MAX_ENDPOINTS, &mut problems);
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let field = format!("endpoints[{index}].addresses");
        if endpoint.addresses.is_empty() {
            problems.push(Problem::new(
                field.clone(),
                "Required value: must contain at least 1 address",
            ));
        }
        for (position, text) in endpoint.addresses.iter().enumerate() {
            slice_address(
                &slice.address_type,
                &format!("{field}[{position}]"),
                text,
                &mut problems,
            );
        }
    }
    let ports = slice.ports.as_deref().unwrap_or_default();
    too_many("ports", ports.len(), MAX_PORTS, &mut problems);
    let mut seen = BTreeSet::new();
    for (index, object) in ports.iter().enumerate() {
        let at = |field: &str| format!("ports[{index}].{field}");
        let name = object.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            names::label(&at("name"), name, &mut problems);
        }
        if !seen.insert(name) {
            problems.push(Problem::duplicate(at("name"), name));
        }
        one_of(
            &at("protocol"),
            object.protocol.as_deref(),
            &["SCTP", "TCP", "UDP"],
            &mut problems,
        );
        if let Some(number) = object.port {
            port(&at("port"), number, &mut problems);
        }
    }
    problems
}

/// Everything that is wrong with an Endpoints object that has its defaults.
pub(in crate::source::dir) fn endpoints(endpoints: &v1::Endpoints) -> Vec<Problem> {
    let mut problems = Vec::new();
    names::metadata(&endpoints.metadata, false, &mut problems);
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let at = |field: &str| format!("subsets[{index}].{field}");
        let groups = [
            ("addresses", &subset.addresses),
            ("notReadyAddresses", &subset.not_ready_addresses),
        ];
        if groups
            .iter()
            .all(|(_, group)| group.iter().flatten().next().is_none())
        {
            let words = "Required value: must specify `addresses` or `notReadyAddresses`";
            problems.push(Problem::new(format!("subsets[{index}]"), words));
        }
        for (field, group) in groups {
            for (position, address) in group.iter().flatten().enumerate() {
                ordinary_address(
                    &at(&format!("{field}[{position}].ip")),
                    &address.ip,
                    &mut problems,
                );
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        for (position, object) in ports.iter().enumerate() {
            let at = |field: &str| at(&format!("ports[{position}].{field}"));
            match object.name.as_deref() {
                None | Some("") if ports.len() > 1 => problems.push(Problem::required(at("name"))),
                None | Some("") => {}
                Some(name) => names::label(&at("name"), name, &mut problems),
            }
            port(&at("port"), object.port, &mut problems);
            one_of(
                &at("protocol"),
                object.protocol.as_deref(),
                &["SCTP", "TCP", "UDP"],
                &mut problems,
            );
        }
    }
    problems
}

fn slice_address(address_type: &str, field: &str, text: &str, problems: &mut Vec<Problem>) {
    match address_type {
        "IPv4" | "IPv6" => match address(text).map(IpFamily::of) {
            Some(family) if family.to_string() == address_type => ordinary_address(field, text, problems),
            _ => {
                let why = format!("must be a valid {address_type} address");
                problems.push(Problem::invalid(field, text, &why));
            }
        },
        "FQDN" => names::subdomain(field, text.trim_end_matches('.'), problems),
        _ => {}
    }
}

fn too_many(field: &str, count: usize, limit: usize, problems: &mut Vec<Problem>) {
    if count > limit {
        problems.push(Problem::new(
            field,
            format!("Too many: {count}: must have at most {limit} items"),
        ));
    }
}
