//! `Endpoints` objects as the cluster's mirroring controller turns them into EndpointSlices (S9).
//!
//! Owns: the conversion. Must not know: whether the Service exists and has a selector.

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::parse::SERVICE_NAME_LABEL;
use crate::model::{IpFamily, Problem, parse_ip_sloppy};

const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
const OVER_CAPACITY_ANNOTATION: &str = "endpoints.kubernetes.io/over-capacity";

/// Why the controller leaves an object alone, when it does.
pub(super) fn left_alone(endpoints: &v1::Endpoints) -> Option<String> {
    let metadata = &endpoints.metadata;
    if metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP_MIRROR_LABEL))
        .is_some_and(|value| value == "true")
    {
        return Some(format!("labelled {SKIP_MIRROR_LABEL}=true"));
    }
    if metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(LEADER_ANNOTATION))
    {
        return Some("a leader election record".to_owned());
    }
    None
}

/// What the user should know about the object although it is used.
pub(super) fn warning(endpoints: &v1::Endpoints) -> Option<Problem> {
    let annotation = endpoints
        .metadata
        .annotations
        .as_ref()?
        .get(OVER_CAPACITY_ANNOTATION)?;
    (annotation == "truncated").then(|| {
        Problem::new(
            format!("metadata.annotations[{OVER_CAPACITY_ANNOTATION}]"),
            "truncated: the Service has more endpoints than this object could hold",
        )
    })
}

/// One slice for each subset and family that has addresses.
pub(super) fn slices(endpoints: &v1::Endpoints) -> Vec<discovery::EndpointSlice> {
    let mut slices = Vec::new();
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        for family in IpFamily::ALL {
            let members = members(subset, family);
            if !members.is_empty() {
                slices.push(slice(endpoints, subset, index, family, members));
            }
        }
    }
    slices
}

fn members(subset: &v1::EndpointSubset, family: IpFamily) -> Vec<discovery::Endpoint> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|address| (address, false));
    ready
        .chain(not_ready)
        .filter(|(address, _)| parse_ip_sloppy(&address.ip).map(IpFamily::of) == Some(family))
        .map(|(address, ready)| discovery::Endpoint {
            addresses: vec![address.ip.clone()],
            conditions: Some(discovery::EndpointConditions {
                ready: Some(ready),
                ..Default::default()
            }),
            hostname: address.hostname.clone(),
            node_name: address.node_name.clone(),
            ..Default::default()
        })
        .collect()
}

fn slice(
    endpoints: &v1::Endpoints,
    subset: &v1::EndpointSubset,
    index: usize,
    family: IpFamily,
    members: Vec<discovery::Endpoint>,
) -> discovery::EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let ports = subset.ports.iter().flatten().map(|port| discovery::EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: port.protocol.clone(),
    });
    discovery::EndpointSlice {
        address_type: family.to_string(),
        endpoints: members,
        metadata: ObjectMeta {
            name: Some(format!(
                "{name}-mirror-{}-{index}",
                family.to_string().to_lowercase()
            )),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some([(SERVICE_NAME_LABEL.to_owned(), name)].into()),
            ..Default::default()
        },
        ports: Some(ports.collect()),
    }
}
