//! From the API's objects to the domain types: parse or report.
//!
//! An object is accepted with warnings about the parts that are ignored, skipped because it is none of the
//! proxy's business, or refused whole. Objects are expected as the API server stores them, defaults
//! applied; absent optional fields are read as their defaults all the same.

mod endpoint_slice;
mod node;
mod service;
#[cfg(test)]
mod tests;

pub use endpoint_slice::endpoint_slice;
pub use node::node;
pub use service::{ingress, service};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::{ObjectRef, Problem, Protocol, Skip};

/// The label that joins an EndpointSlice to its Service (S2).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

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

fn name_problems(metadata: &ObjectMeta) -> Vec<Problem> {
    match metadata.name.as_deref() {
        None | Some("") => vec![Problem::required("metadata.name")],
        Some(_) => Vec::new(),
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
