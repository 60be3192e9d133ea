//! EndpointSlices as the cluster's controller makes them out of Services and pods.
//!
//! Owns: selection, named ports and grouping, pure. Must not know: files, allocation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lb_userspace::model::IpFamily;

use super::manifest::namespace;
use super::plan::PodPlan;
use crate::server::Protocol;

/// The label that joins a slice to its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// A port an endpoint serves: name, protocol, number.
type ServedPort = (String, &'static str, u16);

/// The slices of a Service; what could not be resolved goes to `notes`.
pub(super) fn slices(
    service: &v1::Service,
    pods: &[PodPlan],
    notes: &mut BTreeSet<String>,
) -> Vec<discovery::EndpointSlice> {
    let empty = v1::ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let namespace = namespace(&service.metadata);
    let selected: Vec<_> = pods
        .iter()
        .filter(|pod| pod.namespace == namespace && selects(spec.selector.as_ref(), &pod.labels))
        .collect();
    let mut slices = Vec::new();
    for family in families(spec) {
        // A named port may have another number on every pod: those with equal ports share a slice.
        let mut groups: BTreeMap<Vec<ServedPort>, Vec<&PodPlan>> = BTreeMap::new();
        for pod in &selected {
            let ports = ports(service, spec, pod, notes);
            if !ports.is_empty() {
                groups.entry(ports).or_default().push(pod);
            }
        }
        for (index, (ports, pods)) in groups.into_iter().enumerate() {
            slices.push(slice(service, family, index, &ports, &pods));
        }
    }
    slices
}

/// Whether a Service's selector picks a pod with these labels; one without a selector picks none.
pub(super) fn selects(
    selector: Option<&BTreeMap<String, String>>,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
    })
}

/// The name of a node of the lab.
pub(super) fn node_name(node: u8) -> String {
    format!("node{node}")
}

/// The zone of a node of the lab: two zones, as a small cluster has.
pub(super) fn zone(node: u8) -> String {
    if node.is_multiple_of(2) {
        "zone-a"
    } else {
        "zone-b"
    }
    .to_owned()
}

/// The families the API server gives the Service, IPv4 being the cluster's first.
fn families(spec: &v1::ServiceSpec) -> Vec<IpFamily> {
    if matches!(
        spec.ip_family_policy.as_deref(),
        Some("PreferDualStack" | "RequireDualStack")
    ) {
        return IpFamily::ALL.to_vec();
    }
    let named: Vec<_> = spec.ip_families.iter().flatten().map(String::as_str).collect();
    if !named.is_empty() {
        let chosen = IpFamily::ALL.into_iter();
        return chosen
            .filter(|family| named.contains(&family.to_string().as_str()))
            .collect();
    }
    let address = spec
        .cluster_ip
        .as_deref()
        .and_then(|ip| ip.parse::<IpAddr>().ok());
    vec![address.map_or(IpFamily::V4, IpFamily::of)]
}

fn ports(
    service: &v1::Service,
    spec: &v1::ServiceSpec,
    pod: &PodPlan,
    notes: &mut BTreeSet<String>,
) -> Vec<ServedPort> {
    let mut found = Vec::new();
    for port in spec.ports.iter().flatten() {
        let name = port.name.clone().unwrap_or_default();
        let (protocol, word) = match port.protocol.as_deref().unwrap_or_default() {
            "" | "TCP" => (Some(Protocol::Tcp), "TCP"),
            "UDP" => (Some(Protocol::Udp), "UDP"),
            _ => (None, "SCTP"),
        };
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(target)) => {
                let declared = pod.ports.iter().find(|declared| {
                    declared.name.as_ref() == Some(target) && Some(declared.protocol) == protocol
                });
                if declared.is_none() {
                    notes.insert(format!(
                        "Service {}: targetPort {target}/{word}: pod {} declares no such port, so it is no endpoint of it",
                        service.metadata.name.as_deref().unwrap_or_default(),
                        pod.name
                    ));
                }
                declared.map(|declared| declared.port)
            }
        };
        found.extend(number.map(|number| (name, word, number)));
    }
    found
}

fn slice(
    service: &v1::Service,
    family: IpFamily,
    index: usize,
    ports: &[ServedPort],
    pods: &[&PodPlan],
) -> discovery::EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let spec = service.spec.as_ref();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(
        MANAGED_BY.to_owned(),
        "endpointslice-controller.k8s.io".to_owned(),
    );
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let endpoints = pods.iter().map(|pod| discovery::Endpoint {
        addresses: vec![pod.addresses()[usize::from(family == IpFamily::V6)].to_string()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        node_name: Some(node_name(pod.node)),
        zone: Some(zone(pod.node)),
        target_ref: Some(v1::ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            namespace: Some(pod.namespace.clone()),
            ..Default::default()
        }),
        ..Default::default()
    });
    discovery::EndpointSlice {
        address_type: family.to_string(),
        endpoints: endpoints.collect(),
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}-{index}", family.to_string().to_lowercase())),
            namespace: Some(namespace(&service.metadata)),
            labels: Some(labels),
            ..Default::default()
        },
        ports: Some(
            ports
                .iter()
                .map(|(name, protocol, port)| discovery::EndpointPort {
                    name: Some(name.clone()),
                    protocol: Some((*protocol).to_owned()),
                    port: Some((*port).into()),
                    ..Default::default()
                })
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::manifest::Manifests;
    use crate::demo::plan::plan;

    const PODS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: a, ports: [{containerPort: 8080, name: http}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: odd, labels: {app: web}}
spec: {containers: [{name: a, ports: [{containerPort: 9090, name: http}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: other, labels: {app: web}}
spec: {containers: [{name: a, ports: [{containerPort: 8080, name: http}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: portless, labels: {app: web}}
spec: {containers: [{name: a}]}
";

    /// Each slice in a line, then the notes.
    fn lines(service_spec: &str) -> Vec<String> {
        let mut manifests = Manifests::default();
        let service =
            format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {service_spec}\n");
        manifests.read("x.yaml", &format!("{PODS}{service}")).unwrap();
        let pods = plan(&manifests, 2, 2).unwrap().pods;
        let mut notes = BTreeSet::new();
        let slices = slices(&manifests.services[0], &pods, &mut notes);
        let line = |slice: &discovery::EndpointSlice| {
            let ports: Vec<_> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|port| port.port)
                .map(|port| port.to_string())
                .collect();
            let endpoints: Vec<_> = slice
                .endpoints
                .iter()
                .map(|endpoint| {
                    format!(
                        "{}@{}",
                        endpoint.addresses[0],
                        endpoint.node_name.as_deref().unwrap()
                    )
                })
                .collect();
            let name = slice.metadata.name.as_deref().unwrap();
            format!(
                "{name} {} {}: {}",
                slice.address_type,
                ports.join(","),
                endpoints.join(" ")
            )
        };
        slices.iter().map(line).chain(notes).collect()
    }

    #[test]
    fn endpoints_are_what_the_controller_would_make() {
        let cases: &[(&str, &[&str])] = &[
            (
                "{selector: {app: web, tier: front}, ports: [{port: 80, targetPort: 8080}]}",
                &["web-ipv4-0 IPv4 8080: 10.244.0.2@node0 10.244.1.2@node1"],
            ),
            (
                "{selector: {app: web, tier: front}, ports: [{port: 80}], ipFamilyPolicy: PreferDualStack}",
                &[
                    "web-ipv4-0 IPv4 80: 10.244.0.2@node0 10.244.1.2@node1",
                    "web-ipv6-0 IPv6 80: fd00:10:244::2@node0 fd00:10:244:1::2@node1",
                ],
            ),
            (
                "{selector: {app: web}, ports: [{port: 80, targetPort: http}], ipFamilies: [IPv6]}",
                &[
                    "web-ipv6-0 IPv6 8080: fd00:10:244::2@node0 fd00:10:244:1::2@node1",
                    "web-ipv6-1 IPv6 9090: fd00:10:244::3@node0",
                    "Service web: targetPort http/TCP: pod portless declares no such port, so it is no endpoint of it",
                ],
            ),
            ("{selector: {app: nobody}, ports: [{port: 80}]}", &[]),
            ("{ports: [{port: 80}]}", &[]),
            (
                "{type: ExternalName, externalName: example.org, selector: {app: web}}",
                &[],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(lines(spec), *expected, "{spec}");
        }
    }
}
