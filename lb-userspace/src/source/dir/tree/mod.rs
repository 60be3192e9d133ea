//! YAML (and JSON) text as a tree that remembers lines.
//!
//! Owns: reading a text into documents, so that one broken document does not lose the others (`read`); scalars
//! by the rules Kubernetes' tools use (`scalar`); finding the line of a field path. Must not know: Kubernetes objects.

mod read;
mod scalar;

use std::collections::BTreeSet;

use serde_json::Number;

pub(super) use self::read::{SyntaxError, documents};
use crate::model::Problem;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// The line it starts on, from 1.
    pub(super) line: usize,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Tree>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    line: usize,
    value: Tree,
    /// It came with `<<`, so a key of the mapping's own replaces it.
    merged: bool,
}

impl Tree {
    /// The value of a key, when this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .rev()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The text of a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list; none of anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// Sets a key of a mapping that lacks it.
    pub(super) fn set_default(&mut self, key: &str, text: &str) {
        let line = self.line;
        if self.get(key).is_none()
            && let Value::Map(entries) = &mut self.value
        {
            entries.push(Entry {
                merged: false,
                key: key.to_owned(),
                line,
                value: Self {
                    line,
                    value: Value::String(text.to_owned()),
                },
            });
        }
    }

    /// The line of a field such as `spec.ports[0].nodePort`, or of its nearest ancestor that is there.
    pub(super) fn line_of(&self, path: &str) -> usize {
        let mut node = self;
        let mut line = self.line;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match (&node.value, step.strip_suffix(']')) {
                (Value::List(items), Some(index)) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.line, item)),
                // The API server writes some fields with a capital letter.
                (Value::Map(entries), _) => entries
                    .iter()
                    .rev()
                    .find(|entry| entry.key.eq_ignore_ascii_case(step))
                    .map(|entry| (entry.line, &entry.value)),
                _ => None,
            };
            let Some((at, next)) = next else { break };
            line = at;
            node = next;
        }
        line
    }

    /// Keys that stand twice in one mapping, each with the line of the second.
    pub(super) fn duplicate_keys(&self) -> Vec<(usize, Problem)> {
        let mut found = Vec::new();
        self.collect_duplicates("", &mut found);
        found
    }

    fn collect_duplicates(&self, path: &str, found: &mut Vec<(usize, Problem)>) {
        match &self.value {
            Value::Map(entries) => {
                let mut seen = BTreeSet::new();
                for entry in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}", entry.key);
                    entry.value.collect_duplicates(&path, found);
                    if !seen.insert(entry.key.as_str()) {
                        found.push((entry.line, Problem::new(path, "duplicate field")));
                    }
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect_duplicates(&format!("{path}[{index}]"), found);
                }
            }
            _ => {}
        }
    }

    /// The same as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::String(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => serde_json::Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<Result<serde_json::Value, (usize, String)>> {
        let documents = documents(text).into_iter();
        documents
            .map(|document| {
                document
                    .map(|tree| tree.to_json())
                    .map_err(|error| (error.line, error.reason))
            })
            .collect()
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        let cases: &[(&str, serde_json::Value)] = &[
            ("80", json!(80)),
            ("-1", json!(-1)),
            ("0x50", json!(80)),
            ("0120", json!(80)),
            ("0o120", json!(80)),
            ("09", json!(9.0)),
            ("1.5", json!(1.5)),
            ("10.96.0.1", json!("10.96.0.1")),
            ("yes", json!(true)),
            ("off", json!(false)),
            ("'yes'", json!("yes")),
            ("\"80\"", json!("80")),
            ("!!str 80", json!("80")),
            ("inf", json!("inf")),
            ("::1", json!("::1")),
            ("~", json!(null)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                read(&format!("value: {text}\n")),
                [Ok(json!({ "value": expected }))],
                "{text}"
            );
        }
    }

    #[test]
    fn a_broken_document_does_not_lose_its_neighbours() {
        let read = read("a: 1\n---\nb: [1\n---\n# nothing here\n---\nc: 3\n");
        assert_eq!(read.len(), 3);
        assert_eq!(read[0], Ok(json!({ "a": 1 })));
        assert!(matches!(read[1], Err((3 | 4, _))), "{:?}", read[1]);
        assert_eq!(read[2], Ok(json!({ "c": 3 })));
    }

    #[test]
    fn json_directives_byte_order_marks_and_windows_line_ends_are_read() {
        assert_eq!(
            read("{\n\t\"a\": {\"b\": [1, 2]},\n\t\"c\": \"d\"\n}\n"),
            [Ok(json!({"a": {"b": [1, 2]}, "c": "d"}))]
        );
        assert_eq!(read("\u{feff}%YAML 1.2\n---\na: 1\n"), [Ok(json!({ "a": 1 }))]);
        assert_eq!(
            read("a: 1\r\n---\r\nb: 2\r\n"),
            [Ok(json!({ "a": 1 })), Ok(json!({ "b": 2 }))]
        );
        assert_eq!(
            read("a: 1\n...\n---\nb: 2\n"),
            [Ok(json!({ "a": 1 })), Ok(json!({ "b": 2 }))]
        );
        assert_eq!(read(""), []);
    }

    #[test]
    fn anchors_and_merges_are_resolved_and_bounded() {
        let merged = read("base: &base {a: 1, b: 2}\nuse:\n  <<: *base\n  b: 3\n");
        assert_eq!(
            merged,
            [Ok(json!({"base": {"a": 1, "b": 2}, "use": {"a": 1, "b": 3}}))]
        );
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let previous = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                previous.trim_end_matches(", ")
            ));
        }
        assert!(matches!(&read(&bomb)[..], [Err((_, reason))] if reason.contains("more than")));
        let deep = "[".repeat(10_000);
        assert!(matches!(&read(&deep)[..], [Err(_)]));
        let long = "x".repeat(1 << 20);
        let many = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(10_000));
        assert!(matches!(&read(&many)[..], [Err((_, reason))] if reason.contains("more than")));
    }

    /// A document of so many keys once took minutes.
    #[test]
    fn a_wide_mapping_is_read_in_time_that_grows_with_it() {
        let keys: String = (0..50_000).map(|key| format!("  k{key}: v\n")).collect();
        let text = format!("a: &a\n{keys}b:\n  <<: *a\n  k7: w\nc:\n{keys}");
        let started = std::time::Instant::now();
        let documents = documents(&text);
        let elapsed = started.elapsed();
        let tree = documents[0].as_ref().unwrap();
        let merged = tree.get("b").unwrap();
        assert_eq!(merged.get("k7").and_then(Tree::as_str), Some("w"));
        assert_eq!(merged.get("k8").and_then(Tree::as_str), Some("v"));
        assert!(elapsed.as_secs() < 5, "{elapsed:?}");
    }

    #[test]
    fn a_field_is_found_by_its_path() {
        let text =
            "kind: Service\nspec:\n  ports:\n  - port: 80\n    name: a\n  - port: 81\n    nodePort: 5\n";
        let tree = documents(text).remove(0).unwrap();
        let cases = [
            ("spec", 2),
            ("spec.ports", 3),
            ("spec.ports[0].name", 5),
            ("spec.ports[1].nodePort", 7),
            ("spec.ports[1].targetPort", 6),
            ("spec.Ports[1]", 6),
            ("status.loadBalancer", 1),
            ("", 1),
        ];
        for (path, line) in cases {
            assert_eq!(tree.line_of(path), line, "{path}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_found() {
        let tree = documents("a: 1\nb:\n- c: 1\n  d: 2\n  c: 3\n").remove(0).unwrap();
        assert_eq!(
            tree.duplicate_keys(),
            [(5, Problem::new("b[0].c", "duplicate field"))]
        );
    }
}
