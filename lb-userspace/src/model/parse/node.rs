//! A Node: S10, S30, S41.

use k8s_openapi::api::core::v1;

use super::{Parsed, ignored_address};
use crate::model::{
    Node, ObjectRef, Problem, Rejection, TO_BE_DELETED_TAINT, TOPOLOGY_ZONE_LABEL, parse_ip_sloppy,
};

/// A Node, by S10, S30 and S41.
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
            leaving: leaving(object),
        },
        warnings,
    })
}

fn leaving(object: &v1::Node) -> bool {
    let taints = object.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    object.metadata.deletion_timestamp.is_some()
        || taints.into_iter().any(|taint| taint.key == TO_BE_DELETED_TAINT)
}
