//! A request in the API server's terms: which verb on which resource.
//!
//! Must not know: what is answered.

use std::fmt;

use http::{HeaderMap, Method, Uri, header};

use super::resource::Resource;

/// What a request is for, as far as faults and tests tell requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One object.
    Get,
    /// A list, or a page of one.
    List,
    /// A watch that begins at a version, or with what is there.
    Watch,
    /// A streaming list: a watch with `sendInitialEvents`.
    StreamingList,
    /// POST.
    Create,
    /// PATCH.
    Patch,
    /// Anything else; the double refuses it.
    Other,
}

/// A request the double has seen. It is logged before anything else happens to it, so refused ones are there too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The connection it came over, counted from 1 over the server's life.
    pub connection: u64,
    /// The HTTP method.
    pub method: Method,
    /// The path as sent.
    pub path: String,
    /// The query, decoded, in its order.
    pub query: Vec<(String, String)>,
    /// What it is for.
    pub kind: Kind,
    /// The verb as roles name it: `get`, `list`, `watch`, `create`, `patch`, `update`, `delete`.
    pub verb: &'static str,
    /// The API group; empty for core, and where the path is not of the API.
    pub api_group: String,
    /// The resource's plural, served or not; empty where the path is not of the API.
    pub resource: String,
    /// The subresource, if any.
    pub subresource: Option<String>,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The object's name in the path.
    pub name: Option<String>,
    /// The `User-Agent`.
    pub user_agent: Option<String>,
    /// The bearer token.
    pub token: Option<String>,
    version: String,
}

impl Request {
    /// A parameter of the query; the first one of that name.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The resource, when it is one the double serves.
    #[must_use]
    pub fn served(&self) -> Option<Resource> {
        Resource::named(&self.api_group, &self.version, &self.resource)
    }

    pub(super) fn parse(connection: u64, method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let query: Vec<(String, String)> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let text = |name: header::HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let target = Target::parse(uri.path());
        let truth = |name: &str| {
            query
                .iter()
                .any(|(key, value)| key == name && (value == "true" || value == "1"))
        };
        let (kind, verb) = match method.as_str() {
            "GET" if target.name.is_some() => (Kind::Get, "get"),
            "GET" if truth("watch") && truth("sendInitialEvents") => (Kind::StreamingList, "watch"),
            "GET" if truth("watch") => (Kind::Watch, "watch"),
            "GET" => (Kind::List, "list"),
            "POST" => (Kind::Create, "create"),
            "PATCH" => (Kind::Patch, "patch"),
            "PUT" => (Kind::Other, "update"),
            _ => (Kind::Other, "delete"),
        };
        Self {
            connection,
            method: method.clone(),
            path: uri.path().to_owned(),
            kind,
            verb,
            api_group: target.group,
            version: target.version,
            resource: target.resource,
            subresource: target.subresource,
            namespace: target.namespace,
            name: target.name,
            user_agent: text(header::USER_AGENT),
            token: text(header::AUTHORIZATION)
                .and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned)),
            query,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        let mut separator = '?';
        for (key, value) in &self.query {
            write!(f, "{separator}{key}={value}")?;
            separator = '&';
        }
        Ok(())
    }
}

/// What a path names.
#[derive(Debug, Default)]
struct Target {
    group: String,
    version: String,
    namespace: Option<String>,
    resource: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    /// `/api/v1/…` or `/apis/GROUP/VERSION/…`, then `[namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE]]`.
    fn parse(path: &str) -> Self {
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Self::default(),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let owned = |at: usize| rest.get(at).map(|part| (*part).to_owned());
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            resource: owned(0).unwrap_or_default(),
            name: owned(1),
            subresource: owned(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str) -> Request {
        let method = method.parse().unwrap();
        Request::parse(1, &method, &uri.parse().unwrap(), &HeaderMap::new())
    }

    #[test]
    fn a_path_names_group_resource_namespace_and_object() {
        for (method, uri, verb, named) in [
            (
                "GET",
                "/api/v1/services?limit=5",
                "list",
                ["", "services", "", "", ""],
            ),
            (
                "GET",
                "/api/v1/services?watch=1",
                "watch",
                ["", "services", "", "", ""],
            ),
            ("GET", "/api/v1/nodes/n1", "get", ["", "nodes", "", "n1", ""]),
            (
                "GET",
                "/api/v1/namespaces/t",
                "get",
                ["", "namespaces", "", "t", ""],
            ),
            (
                "PATCH",
                "/api/v1/namespaces/t/services/s/status",
                "patch",
                ["", "services", "t", "s", "status"],
            ),
            (
                "POST",
                "/apis/events.k8s.io/v1/namespaces/t/events",
                "create",
                ["events.k8s.io", "events", "t", "", ""],
            ),
            ("GET", "/healthz", "list", ["", "", "", "", ""]),
        ] {
            let seen = request(method, uri);
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let found = [
                seen.api_group.clone(),
                seen.resource.clone(),
                text(&seen.namespace),
                text(&seen.name),
                text(&seen.subresource),
            ];
            assert_eq!(
                (seen.verb, found.each_ref().map(String::as_str)),
                (verb, named),
                "{uri}"
            );
        }
    }
}
