//! From a file's text to Kubernetes objects, strictly.
//!
//! Owns: which kinds are read, `List`s taken apart, unknown and duplicate fields and values of the wrong
//! type found with their line. Must not know: defaults, validation, what is in force.

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use serde::de::DeserializeOwned;
use serde_ignored::Path;

use super::fields;
use super::tree::{self, SyntaxError, Tree};
use crate::model::{ObjectRef, Problem};

/// Unknown fields of one object that are named; finding the line of each costs a walk through the object.
const MAX_UNKNOWN: usize = 50;

/// What a manifest holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Service(Box<v1::Service>),
    EndpointSlice(Box<discovery::EndpointSlice>),
    Endpoints(Box<v1::Endpoints>),
    Node(Box<v1::Node>),
    /// A kind that means nothing to a proxy.
    Other,
}

/// One object of a file.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    /// The object's text with its lines.
    pub(super) tree: Tree,
    /// Its name, as far as it can be read.
    pub(super) object: ObjectRef,
    /// The object, or everything that is wrong with it, with lines.
    pub(super) content: Result<Content, Vec<(usize, Problem)>>,
}

/// A file's objects, in order, and the documents that are not even YAML.
#[derive(Clone, Debug, Default)]
pub(super) struct DecodedFile {
    pub(super) objects: Vec<Decoded>,
    pub(super) errors: Vec<SyntaxError>,
}

/// Reads a file's text.
pub(super) fn file(text: &str) -> DecodedFile {
    let mut file = DecodedFile::default();
    for document in tree::documents(text) {
        match document {
            Ok(tree) => unpack(tree, &mut file),
            Err(error) => file.errors.push(error),
        }
    }
    file
}

/// A document is an object, or a list of objects.
fn unpack(tree: Tree, file: &mut DecodedFile) {
    if !tree.is_map() {
        file.errors.push(SyntaxError {
            line: tree.line,
            reason: "not a Kubernetes object".to_owned(),
        });
        return;
    }
    let kind = tree.get("kind").and_then(Tree::as_str).unwrap_or_default();
    let is_list = kind.ends_with("List") && tree.get("items").is_some();
    let Some(item_kind) = kind.strip_suffix("List").filter(|_| is_list) else {
        file.objects.push(object(tree));
        return;
    };
    let version = tree.get("apiVersion").and_then(Tree::as_str).unwrap_or_default();
    for item in tree.get("items").map(Tree::items).unwrap_or_default() {
        let mut item = item.clone();
        if !item_kind.is_empty() {
            // Only a plain `List` holds objects that say what they are.
            item.set_default("kind", item_kind);
            item.set_default("apiVersion", version);
        }
        unpack(item, file);
    }
}

fn object(tree: Tree) -> Decoded {
    let text = |node: Option<&Tree>| node.and_then(Tree::as_str).unwrap_or_default().to_owned();
    let kind = text(tree.get("kind"));
    let version = text(tree.get("apiVersion"));
    let metadata = tree.get("metadata");
    let name = text(metadata.and_then(|metadata| metadata.get("name")));
    let mut namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
    match kind.as_str() {
        "Node" => namespace.clear(),
        "Service" | "EndpointSlice" | "Endpoints" if namespace.is_empty() => {
            "default".clone_into(&mut namespace);
        }
        // Of all others nobody here knows whether they have one.
        _ => {}
    }
    let group_version = match kind.as_str() {
        "Service" | "Endpoints" | "Node" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        _ => version.as_str(),
    };
    let content = if kind.is_empty() {
        Err(vec![(tree.line, Problem::required("kind"))])
    } else if version.is_empty() {
        Err(vec![(tree.line, Problem::required("apiVersion"))])
    } else if version != group_version && same_group(&version, group_version) {
        let words = format!("no matches for kind {kind:?} in version {version:?}, only in {group_version:?}");
        Err(vec![(
            tree.line_of("apiVersion"),
            Problem::new("apiVersion", words),
        )])
    } else if version != group_version {
        // The same kind of another API group, for example Knative's Service.
        Ok(Content::Other)
    } else {
        match kind.as_str() {
            "Service" => strict(&tree, &kind).map(|object| Content::Service(Box::new(object))),
            "EndpointSlice" => strict(&tree, &kind).map(|object| Content::EndpointSlice(Box::new(object))),
            "Endpoints" => strict(&tree, &kind).map(|object| Content::Endpoints(Box::new(object))),
            "Node" => strict(&tree, &kind).map(|object| Content::Node(Box::new(object))),
            _ => Ok(Content::Other),
        }
    };
    Decoded {
        object: ObjectRef::new(kind, namespace, name),
        content,
        tree,
    }
}

fn same_group(left: &str, right: &str) -> bool {
    let group = |version: &str| {
        version
            .rsplit_once('/')
            .map(|(group, _)| group.to_owned())
            .unwrap_or_default()
    };
    group(left) == group(right)
}

/// Decodes an object whole or says everything that is wrong.
fn strict<T: DeserializeOwned>(tree: &Tree, kind: &str) -> Result<T, Vec<(usize, Problem)>> {
    let mut problems = tree.duplicate_keys();
    let mut unknown = Vec::new();
    let mut note_unknown = |path: Path<'_>| unknown.push(dotted(&path));
    let json = tree.to_json();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(json, &mut track);
    let decoded = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note_unknown));
    let left_out = unknown.len().saturating_sub(MAX_UNKNOWN);
    if left_out > 0 {
        let words = format!("{left_out} more unknown fields");
        problems.push((tree.line, Problem::new("", words)));
    }
    for path in unknown.into_iter().take(MAX_UNKNOWN) {
        let reason = match fields::suggestion(kind, &path) {
            Some(field) => format!("unknown field (did you mean {field}?)"),
            None => "unknown field".to_owned(),
        };
        problems.push((tree.line_of(&path), Problem::new(path, reason)));
    }
    match decoded {
        Ok(object) if problems.is_empty() => return Ok(object),
        Ok(_) => {}
        Err(error) => {
            let path = track.path().to_string();
            let path = if path == "." { String::new() } else { path };
            problems.push((tree.line_of(&path), Problem::new(path, error.to_string())));
        }
    }
    problems.sort_by_key(|(line, _)| *line);
    Err(problems)
}

/// A path in the API server's notation.
fn dotted(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        Path::Map { parent, key } => {
            let parent = dotted(parent);
            if parent.is_empty() {
                key.clone()
            } else {
                format!("{parent}.{key}")
            }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            dotted(parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line: path: reason` of every problem of the only object.
    fn problems(text: &str) -> Vec<String> {
        let file = file(text);
        assert_eq!(file.errors, []);
        let [object] = &file.objects[..] else {
            panic!("{} objects", file.objects.len())
        };
        let problems = object.content.as_ref().expect_err("the object is refused");
        problems
            .iter()
            .map(|(line, problem)| format!("{line}: {problem}"))
            .collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n";
        let cases: &[(&str, &[&str])] = &[
            (
                "spec:\n  externalTrafficPilicy: Local\n",
                &["6: spec.externalTrafficPilicy: unknown field (did you mean externalTrafficPolicy?)"],
            ),
            (
                "spec:\n  ports:\n  - port: 80\n    nodeport: 30000\n",
                &["8: spec.ports[0].nodeport: unknown field (did you mean nodePort?)"],
            ),
            ("spec:\n  banana: 1\n", &["6: spec.banana: unknown field"]),
            (
                "spec:\n  type: NodePort\n  type: ClusterIP\n",
                &["7: spec.type: duplicate field"],
            ),
            (
                "spec:\n  ports:\n  - port: eighty\n",
                &["7: spec.ports[0].port: invalid type: string \"eighty\", expected i32"],
            ),
            (
                "spec:\n  selector: {app: 1}\n",
                &["6: spec.selector.app: invalid type: integer `1`, expected a string"],
            ),
        ];
        for (rest, expected) in cases {
            assert_eq!(problems(&format!("{service}{rest}")), *expected, "{rest}");
        }
        assert_eq!(
            problems("apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\n"),
            [
                "1: apiVersion: no matches for kind \"EndpointSlice\" in version \"discovery.k8s.io/v1beta1\", only in \
              \"discovery.k8s.io/v1\""
            ]
        );
        assert_eq!(
            problems("apiVersion: v1\nmetadata: {name: a}\n"),
            ["1: kind: Required value"]
        );
        assert_eq!(
            problems("kind: Service\nmetadata: {name: a}\n"),
            ["1: apiVersion: Required value"]
        );
    }

    #[test]
    fn lists_are_taken_apart_and_other_kinds_passed_over() {
        let text = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: a}
- apiVersion: apps/v1
  kind: Deployment
  metadata: {name: b, namespace: n}
  anything: [goes]
---
apiVersion: v1
kind: NodeList
items:
- metadata: {name: c}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: d}
---
- not an object
";
        let file = file(text);
        let objects: Vec<String> = file
            .objects
            .iter()
            .map(|decoded| decoded.object.to_string())
            .collect();
        assert_eq!(
            objects,
            [
                "Service default/a",
                "Deployment n/b",
                "Node c",
                "Service default/d"
            ]
        );
        assert!(matches!(file.objects[0].content, Ok(Content::Service(_))));
        assert!(matches!(file.objects[1].content, Ok(Content::Other)));
        assert!(matches!(file.objects[2].content, Ok(Content::Node(_))));
        assert!(matches!(file.objects[3].content, Ok(Content::Other)));
        assert_eq!(file.errors.len(), 1);
    }
}
