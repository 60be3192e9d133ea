//! The syntax of names.
//!
//! Owns: the three kinds of names these objects use. Must not know: which field holds which kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::Problem;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                         and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The object's own name and namespace; `labels_only` forbids dots.
pub(super) fn metadata(metadata: &ObjectMeta, labels_only: bool, problems: &mut Vec<Problem>) {
    match metadata.name.as_deref() {
        None | Some("") => problems.push(Problem::new(
            "metadata.name",
            "Required value: name or generateName is required",
        )),
        Some(name) if labels_only => label("metadata.name", name, problems),
        Some(name) => subdomain("metadata.name", name, problems),
    }
    if let Some(namespace) = metadata.namespace.as_deref() {
        label("metadata.namespace", namespace, problems);
    }
}

/// An RFC 1123 label.
pub(super) fn label(field: &str, name: &str, problems: &mut Vec<Problem>) {
    too_long(field, name, 63, problems);
    if !is_label(name) {
        problems.push(Problem::invalid(field, name, LABEL));
    }
}

/// An RFC 1123 subdomain.
pub(super) fn subdomain(field: &str, name: &str, problems: &mut Vec<Problem>) {
    too_long(field, name, 253, problems);
    if !name.split('.').all(is_label) {
        problems.push(Problem::invalid(field, name, SUBDOMAIN));
    }
}

/// An IANA service name, as a named `targetPort` is one.
pub(super) fn service_name(field: &str, name: &str, problems: &mut Vec<Problem>) {
    too_long(field, name, 15, problems);
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        let why = "must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)";
        problems.push(Problem::invalid(field, name, why));
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push(Problem::invalid(
            field,
            name,
            "must contain at least one letter (a-z)",
        ));
    }
    if name.contains("--") {
        problems.push(Problem::invalid(
            field,
            name,
            "must not contain consecutive hyphens",
        ));
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push(Problem::invalid(
            field,
            name,
            "must not begin or end with a hyphen",
        ));
    }
}

fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn too_long(field: &str, name: &str, limit: usize, problems: &mut Vec<Problem>) {
    if name.len() > limit {
        problems.push(Problem::invalid(
            field,
            name,
            &format!("must be no more than {limit} bytes"),
        ));
    }
}
