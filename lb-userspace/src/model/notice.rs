//! Why an object, or a part of it, is not used.
//!
//! Owns: the words' structure; they are those of the API server where it would refuse the same.
//! Must not know: files and lines, which only a source can add.

use std::fmt;

/// Names an object in messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind, for example `Service`.
    pub kind: String,
    /// The namespace; empty for a Node.
    pub namespace: String,
    /// The name; empty when the object has none.
    pub name: String,
}

impl ObjectRef {
    /// The reference of `kind namespace/name`.
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind.is_empty() {
            "object"
        } else {
            &self.kind
        };
        if self.name.is_empty() {
            write!(f, "{kind} without a name")
        } else if self.namespace.is_empty() {
            write!(f, "{kind} {}", self.name)
        } else {
            write!(f, "{kind} {}/{}", self.namespace, self.name)
        }
    }
}

/// One thing that is wrong, and where in the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The field's path, for example `spec.ports[0].port`; empty for the whole object.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Problem {
    /// `reason` about `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The field may not be left out.
    pub fn required(field: impl Into<String>) -> Self {
        Self::new(field, "Required value")
    }

    /// The field holds a value it may not hold; `value` is written as JSON writes it.
    pub fn invalid(field: impl Into<String>, value: impl serde::Serialize, why: &str) -> Self {
        Self::new(field, format!("Invalid value: {}: {why}", json(value)))
    }

    /// The field holds none of the values it may hold.
    pub fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(json).collect();
        Self::new(
            field,
            format!(
                "Unsupported value: {}: supported values: {}",
                json(value),
                supported.join(", ")
            ),
        )
    }

    /// The field may not be set here.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self::new(field, format!("Forbidden: {why}"))
    }

    /// The value is there a second time.
    pub fn duplicate(field: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self::new(field, format!("Duplicate value: {}", json(value)))
    }
}

fn json(value: impl serde::Serialize) -> String {
    // Only strings, numbers, lists and maps with string keys come here, and those always serialise.
    serde_json::to_string(&value).unwrap_or_default()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.field, self.reason)
        }
    }
}

/// An object refused whole: it is never applied in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The object.
    pub object: ObjectRef,
    /// Everything found wrong with it; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Rejection {
    /// The API server's sentence: one problem bare, several in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} is invalid: ", self.object.kind, self.object.name)?;
        match self.problems.as_slice() {
            [problem] => write!(f, "{problem}"),
            problems => {
                f.write_str("[")?;
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{problem}")?;
                }
                f.write_str("]")
            }
        }
    }
}

impl std::error::Error for Rejection {}

/// Why a well-formed object is none of the proxy's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// `clusterIP: None` (S1).
    Headless,
    /// The object has no cluster IP yet (S1).
    NoClusterIp,
    /// `type: ExternalName` (S1).
    ExternalName,
    /// Labelled for another proxy (S1).
    OtherProxy(String),
    /// A slice labelled headless (S2).
    HeadlessSlice,
    /// A slice without the label that names its Service (S2).
    NoServiceLabel,
    /// A slice of host names (S2).
    Fqdn,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headless => {
                f.write_str("headless (clusterIP: None): its clients use the endpoints directly")
            }
            Self::NoClusterIp => f.write_str("no clusterIP is allocated"),
            Self::ExternalName => f.write_str("type ExternalName: a DNS name, nothing to balance"),
            Self::OtherProxy(name) => {
                write!(
                    f,
                    "labelled service.kubernetes.io/service-proxy-name={name}: another proxy's"
                )
            }
            Self::HeadlessSlice => f.write_str("labelled service.kubernetes.io/headless"),
            Self::NoServiceLabel => f.write_str("no label kubernetes.io/service-name"),
            Self::Fqdn => f.write_str("addressType FQDN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_as_far_as_it_is_known() {
        for (kind, namespace, name, words) in [
            ("Service", "shop", "web", "Service shop/web"),
            ("Node", "", "node-1", "Node node-1"),
            ("Service", "shop", "", "Service without a name"),
            ("", "", "", "object without a name"),
        ] {
            assert_eq!(ObjectRef::new(kind, namespace, name).to_string(), words);
        }
    }

    #[test]
    fn a_rejection_is_the_api_servers_sentence() {
        let mut rejection = Rejection {
            object: ObjectRef::new("Service", "shop", "web"),
            problems: vec![Problem::new("spec.type", "odd")],
        };
        let one = r#"Service "web" is invalid: spec.type: odd"#;
        assert_eq!(rejection.to_string(), one);
        rejection.problems.push(Problem::new("spec.ports", "none"));
        let two = r#"Service "web" is invalid: [spec.type: odd, spec.ports: none]"#;
        assert_eq!(rejection.to_string(), two);
    }

    #[test]
    fn what_is_left_alone_is_said_with_its_reason() {
        for (skip, word) in [
            (Skip::Headless, "headless"),
            (Skip::NoClusterIp, "clusterIP"),
            (Skip::ExternalName, "ExternalName"),
            (Skip::OtherProxy("other".to_owned()), "=other"),
            (Skip::HeadlessSlice, "service.kubernetes.io/headless"),
            (Skip::NoServiceLabel, "kubernetes.io/service-name"),
            (Skip::Fqdn, "FQDN"),
        ] {
            assert!(skip.to_string().contains(word), "{skip}");
        }
    }
}
