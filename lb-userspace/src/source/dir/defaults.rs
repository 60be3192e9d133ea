//! The defaults an API server fills in before it validates.
//!
//! Owns: defaults that need no allocation. Must not know: ranges, other objects.

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::model::DEFAULT_AFFINITY_TIMEOUT;

/// Fills in a Service.
pub(super) fn service(service: &mut v1::Service) {
    namespace(&mut service.metadata);
    let spec = service.spec.get_or_insert_default();
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    let affinity = spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    if affinity == "ClientIP" {
        let config = spec
            .session_affinity_config
            .get_or_insert_default()
            .client_ip
            .get_or_insert_default();
        let seconds = i32::try_from(DEFAULT_AFFINITY_TIMEOUT.as_secs()).unwrap_or(i32::MAX);
        config.timeout_seconds.get_or_insert(seconds);
    }
    for port in spec.ports.iter_mut().flatten() {
        protocol(&mut port.protocol);
        let same = IntOrString::Int(port.port);
        match &port.target_port {
            None | Some(IntOrString::Int(0)) => port.target_port = Some(same),
            Some(IntOrString::String(name)) if name.is_empty() => port.target_port = Some(same),
            Some(_) => {}
        }
    }
    if kind != "ExternalName" {
        spec.internal_traffic_policy
            .get_or_insert_with(|| "Cluster".to_owned());
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        spec.external_traffic_policy
            .get_or_insert_with(|| "Cluster".to_owned());
    }
    if kind == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}

/// Fills in an EndpointSlice.
pub(super) fn endpoint_slice(slice: &mut discovery::EndpointSlice) {
    namespace(&mut slice.metadata);
    for port in slice.ports.iter_mut().flatten() {
        port.name.get_or_insert_default();
        protocol(&mut port.protocol);
    }
}

/// Fills in an Endpoints object.
pub(super) fn endpoints(endpoints: &mut v1::Endpoints) {
    namespace(&mut endpoints.metadata);
    for port in endpoints
        .subsets
        .iter_mut()
        .flatten()
        .flat_map(|subset| subset.ports.iter_mut().flatten())
    {
        protocol(&mut port.protocol);
    }
}

fn namespace(metadata: &mut ObjectMeta) {
    let namespace = metadata.namespace.get_or_insert_default();
    if namespace.is_empty() {
        "default".clone_into(namespace);
    }
}

fn protocol(protocol: &mut Option<String>) {
    if protocol.as_deref().unwrap_or_default().is_empty() {
        *protocol = Some("TCP".to_owned());
    }
}
