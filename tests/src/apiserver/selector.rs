//! Label and field selectors: which objects a list or watch is about.
//!
//! Must not know: lists, watches.

use std::collections::BTreeSet;

use serde_json::Value;

use super::refusal::Refusal;
use super::resource::Resource;

/// The objects a request asks for: those of a namespace that both selectors take.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// One condition of a selector on a label or a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

impl Filter {
    /// Parses the selectors of a request for `resource`; empty ones take everything.
    pub(super) fn parse(
        resource: Resource,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Refusal> {
        let labels = terms(labels)
            .map(Requirement::of_labels)
            .collect::<Result<_, _>>()?;
        let fields = terms(fields)
            .map(|term| Requirement::of_fields(resource, term))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            labels,
            fields,
        })
    }

    /// Whether anything but the namespace is selected by.
    pub(super) fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Whether the object is one of those asked for.
    pub(super) fn takes(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.namespace
            .as_deref()
            .is_none_or(|namespace| metadata["namespace"] == namespace)
            && self
                .labels
                .iter()
                .all(|requirement| requirement.holds(|key| metadata["labels"][key].as_str()))
            && self
                .fields
                .iter()
                .all(|requirement| requirement.holds(|path| Some(field(object, path))))
    }
}

impl Requirement {
    fn of_labels(term: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::bad_request(format!("unable to parse requirement: {term:?}"));
        let requirement = if let Some(key) = term.strip_prefix('!') {
            Self::Absent(key.trim().to_owned())
        } else if let Some(equality) = Self::equality(term) {
            equality
        } else if let Some((left, values)) = term.strip_suffix(')').and_then(|t| t.split_once('(')) {
            let values = values.split(',').map(|value| value.trim().to_owned()).collect();
            match left.split_whitespace().collect::<Vec<_>>().as_slice() {
                [key, "in"] => Self::In((*key).to_owned(), values),
                [key, "notin"] => Self::NotIn((*key).to_owned(), values),
                _ => return Err(bad()),
            }
        } else {
            Self::Exists(term.to_owned())
        };
        let key = requirement.key();
        if key.is_empty() || key.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c))) {
            return Err(bad());
        }
        Ok(requirement)
    }

    fn of_fields(resource: Resource, term: &str) -> Result<Self, Refusal> {
        let requirement = Self::equality(term).ok_or_else(|| {
            Refusal::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'"))
        })?;
        let key = requirement.key();
        if ["metadata.name", "metadata.namespace"].contains(&key)
            || resource.selectable_fields().contains(&key)
        {
            Ok(requirement)
        } else {
            Err(Refusal::bad_request(format!("field label not supported: {key}")))
        }
    }

    /// `key=value`, `key==value`, `key!=value`.
    fn equality(term: &str) -> Option<Self> {
        let (key, value) = term.split_once('=')?;
        let only = |value: &str| BTreeSet::from([value.trim().to_owned()]);
        Some(match key.strip_suffix('!') {
            Some(key) => Self::NotIn(key.trim().to_owned(), only(value)),
            None => Self::In(
                key.trim().to_owned(),
                only(value.strip_prefix('=').unwrap_or(value)),
            ),
        })
    }

    fn key(&self) -> &str {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::Absent(key) => key,
        }
    }

    /// What is not there is in no set, and not in any.
    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        let found = value(self.key());
        match self {
            Self::In(_, values) => found.is_some_and(|value| values.contains(value)),
            Self::NotIn(_, values) => found.is_none_or(|value| !values.contains(value)),
            Self::Exists(_) => found.is_some(),
            Self::Absent(_) => found.is_none(),
        }
    }
}

/// The conditions of a selector, which commas outside parentheses divide.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    selector
        .split(move |c| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

/// A field by its dotted path; one that is not there is empty, as a field of Go's is.
fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    match path.split('.').try_fold(object, |value, step| value.get(step)) {
        Some(Value::String(text)) => text,
        Some(Value::Bool(true)) => "true",
        Some(Value::Bool(false)) => "false",
        _ if path == "spec.unschedulable" => "false",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_take_what_the_api_server_takes() {
        let object = json!({
            "metadata": {"name": "web", "namespace": "t", "labels": {"app": "web", "tier": ""}},
            "spec": {"clusterIP": "None"},
        });
        for (labels, fields, taken) in [
            ("", "", true),
            ("app", "", true),
            ("!app", "", false),
            ("!service.kubernetes.io/headless", "", true),
            ("app=web,tier=", "", true),
            ("app==web", "", true),
            ("app!=web", "", false),
            ("other!=web", "", true),
            ("app in (a, web),tier", "", true),
            ("app notin (a,web)", "", false),
            ("other notin (a)", "", true),
            ("", "metadata.name=web", true),
            ("", "metadata.name=other", false),
            ("", "spec.clusterIP!=None", false),
            ("", "spec.clusterIP!=10.0.0.1,metadata.namespace=t", true),
            ("app=web", "metadata.name!=web", false),
        ] {
            let filter = Filter::parse(Resource::Services, None, labels, fields).unwrap();
            assert_eq!(filter.takes(&object), taken, "{labels:?} {fields:?}");
        }
        let elsewhere = Filter::parse(Resource::Services, Some("other"), "", "").unwrap();
        assert!(!elsewhere.takes(&object));
    }

    #[test]
    fn selectors_that_are_none_are_refused() {
        for (labels, fields) in [
            ("=x", ""),
            ("a b", ""),
            ("a like (b)", ""),
            ("", "spec.ports=80"),
            ("", "metadata.name"),
        ] {
            let refused = Filter::parse(Resource::Services, None, labels, fields).unwrap_err();
            assert_eq!(refused.code, 400, "{labels:?} {fields:?}");
        }
    }
}
