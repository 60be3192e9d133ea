//! The field names of the objects a manifest may hold, to guess which one a misspelt name stands for.
//!
//! Owns: the names. Must not know: decoding; a name missing here costs a hint, never a refusal.

/// Closer than this a name is a likely misspelling (Damerau-Levenshtein, relative).
const SIMILAR: f64 = 0.6;

const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "ownerReferences",
];
const SERVICE_SPEC: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
];
const SERVICE_PORT: &[&str] = &[
    "appProtocol",
    "name",
    "nodePort",
    "port",
    "protocol",
    "targetPort",
];
const PORT: &[&str] = &["appProtocol", "name", "port", "protocol"];
const INGRESS: &[&str] = &["hostname", "ip", "ipMode", "ports"];
const SLICE: &[&str] = &[
    "addressType",
    "apiVersion",
    "endpoints",
    "kind",
    "metadata",
    "ports",
];
const ENDPOINT: &[&str] = &[
    "addresses",
    "conditions",
    "hints",
    "hostname",
    "nodeName",
    "targetRef",
    "zone",
];
const CONDITIONS: &[&str] = &["ready", "serving", "terminating"];
const HINTS: &[&str] = &["forNodes", "forZones"];
const ENDPOINTS: &[&str] = &["apiVersion", "kind", "metadata", "subsets"];
const SUBSET: &[&str] = &["addresses", "notReadyAddresses", "ports"];
const SUBSET_ADDRESS: &[&str] = &["hostname", "ip", "nodeName", "targetRef"];

/// The known field most like the last name of `path`, when one is like it.
pub(super) fn suggestion(kind: &str, path: &str) -> Option<&'static str> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let known = siblings(kind, &without_indices(parent))?;
    known
        .iter()
        .map(|field| {
            (
                strsim::normalized_damerau_levenshtein(&field.to_lowercase(), &name.to_lowercase()),
                *field,
            )
        })
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, field)| field)
}

fn siblings(kind: &str, parent: &str) -> Option<&'static [&'static str]> {
    Some(match (kind, parent) {
        (_, "metadata") => METADATA,
        ("Service", "spec") => SERVICE_SPEC,
        ("Service", "spec.ports") => SERVICE_PORT,
        ("Service", "spec.sessionAffinityConfig") => &["clientIP"],
        ("Service", "spec.sessionAffinityConfig.clientIP") => &["timeoutSeconds"],
        ("Service", "status") => &["conditions", "loadBalancer"],
        ("Service", "status.loadBalancer") => &["ingress"],
        ("Service", "status.loadBalancer.ingress") => INGRESS,
        ("EndpointSlice", "") => SLICE,
        ("EndpointSlice", "ports") | ("Endpoints", "subsets.ports") => PORT,
        ("EndpointSlice", "endpoints") => ENDPOINT,
        ("EndpointSlice", "endpoints.conditions") => CONDITIONS,
        ("EndpointSlice", "endpoints.hints") => HINTS,
        ("Endpoints", "") => ENDPOINTS,
        ("Endpoints", "subsets") => SUBSET,
        ("Endpoints", "subsets.addresses" | "subsets.notReadyAddresses") => SUBSET_ADDRESS,
        ("Service" | "Node", "") => OBJECT,
        _ => return None,
    })
}

fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for letter in path.chars() {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => plain.push(letter),
            _ => {}
        }
    }
    plain
}
