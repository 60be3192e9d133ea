//! YAML (and JSON) text as a tree that remembers lines.
//!
//! Owns: reading a text into documents, so that one broken document does not lose the others; scalars by
//! the rules Kubernetes' tools use; finding the line of a field path. Must not know: Kubernetes objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Number;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use crate::model::Problem;

/// Deeper nesting than any object has; bounds recursion.
const MAX_DEPTH: usize = 64;
/// More values than any sensible document has; bounds what aliases can multiply.
const MAX_VALUES: usize = 2_000_000;
/// A text counts as so many values as it has pieces of this length: aliases multiply long texts too.
const TEXT_PIECE: usize = 64;

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

/// A document that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The line, from 1.
    pub(super) line: usize,
    /// What the parser says.
    pub(super) reason: String,
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

/// Reads every document of a text; a broken one becomes an error and the others are read all the same.
pub(super) fn documents(text: &str) -> Vec<Result<Tree, SyntaxError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    for (first_line, chunk) in split(text) {
        Builder::new(first_line).read(chunk, &mut documents);
    }
    documents
}

/// Cuts at the lines that start with `---`: no document can contain one, so a document that does not parse
/// cannot hide where the next one begins. Yields the number of lines before each part.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = line.trim_end();
        let is_marker = content
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if is_marker && offset > start {
            parts.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    parts.push((start_line, &text[start..]));
    // A part of comments, directives and empty lines is no document.
    parts.retain(|(_, part)| {
        part.lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with(['#', '%']))
    });
    parts
}

/// An open collection.
struct Open {
    line: usize,
    anchor: usize,
    value: Value,
    /// The key that waits for its value.
    key: Option<(String, usize)>,
    is_map: bool,
    /// A `<<` was among the keys.
    has_merged: bool,
}

/// Builds trees out of parser events.
struct Builder {
    lines_before: usize,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Tree, usize)>,
    values: usize,
}

impl Builder {
    fn new(lines_before: usize) -> Self {
        Self {
            lines_before,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            values: 0,
        }
    }

    fn read(mut self, text: &str, documents: &mut Vec<Result<Tree, SyntaxError>>) {
        let mut root = None;
        for event in Parser::new_from_str(text) {
            let result = match event {
                Ok((event, span)) => {
                    let line = span.start.line() + self.lines_before;
                    if matches!(event, Event::DocumentEnd) {
                        documents.extend(root.take().filter(|tree: &Tree| !tree.is_null()).map(Ok));
                    }
                    self.event(event, line)
                        .map_err(|reason| SyntaxError { line, reason })
                }
                Err(error) => {
                    let line = error.marker().line() + self.lines_before;
                    Err(SyntaxError {
                        line,
                        reason: error.info(),
                    })
                }
            };
            match result {
                Ok(Some(tree)) => root = Some(tree),
                Ok(None) => {}
                Err(error) => {
                    documents.push(Err(error));
                    return;
                }
            }
        }
    }

    /// Takes one event; yields the root when it is complete.
    fn event(&mut self, event: Event<'_>, line: usize) -> Result<Option<Tree>, String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if self.expects_key() {
                    self.remember(
                        anchor,
                        &Tree {
                            line,
                            value: Value::String(text.to_string()),
                        },
                    );
                    self.set_key(text.into_owned(), line);
                    return Ok(None);
                }
                let value = if plain {
                    scalar(&text)
                } else {
                    Value::String(text.into_owned())
                };
                self.finish(Tree { line, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.start(line, anchor, false),
            Event::MappingStart(_, anchor, _) => self.start(line, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.finish(
                    Tree {
                        line: open.line,
                        value: open.value,
                    },
                    open.anchor,
                ),
                None => Err("a collection ends that was not open".to_owned()),
            },
            Event::Alias(anchor) => {
                let unknown = || "unknown alias".to_owned();
                let size = self.anchors.get(&anchor).ok_or_else(unknown)?.1;
                self.count(size)?;
                let mut tree = self.anchors.get(&anchor).ok_or_else(unknown)?.0.clone();
                tree.line = line;
                if self.expects_key() {
                    let key = tree.as_str().ok_or_else(|| "a key must be a string".to_owned())?;
                    self.set_key(key.to_owned(), line);
                    return Ok(None);
                }
                self.finish(tree, 0)
            }
            _ => Ok(None),
        }
    }

    fn start(&mut self, line: usize, anchor: usize, is_map: bool) -> Result<Option<Tree>, String> {
        if self.expects_key() {
            return Err("a key must be a string".to_owned());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let value = if is_map {
            Value::Map(Vec::new())
        } else {
            Value::List(Vec::new())
        };
        self.open.push(Open {
            line,
            anchor,
            value,
            key: None,
            is_map,
            has_merged: false,
        });
        Ok(None)
    }

    fn finish(&mut self, tree: Tree, anchor: usize) -> Result<Option<Tree>, String> {
        self.count(1)?;
        self.remember(anchor, &tree);
        let Some(open) = self.open.last_mut() else {
            return Ok(Some(tree));
        };
        match &mut open.value {
            Value::List(items) => items.push(tree),
            Value::Map(entries) => {
                let (key, line) = open
                    .key
                    .take()
                    .ok_or_else(|| "a value without a key".to_owned())?;
                if key == "<<" && (tree.is_map() || !tree.items().is_empty()) {
                    merge(entries, &tree);
                    open.has_merged = true;
                } else {
                    if open.has_merged {
                        entries.retain(|entry| entry.key != key || !entry.merged);
                    }
                    entries.push(Entry {
                        key,
                        line,
                        value: tree,
                        merged: false,
                    });
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn expects_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.is_map && open.key.is_none())
    }

    fn set_key(&mut self, key: String, line: usize) {
        if let Some(open) = self.open.last_mut() {
            open.key = Some((key, line));
        }
    }

    fn remember(&mut self, anchor: usize, tree: &Tree) {
        if anchor != 0 {
            self.anchors.insert(anchor, (tree.clone(), size(tree)));
        }
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values > MAX_VALUES {
            Err(format!("more than {MAX_VALUES} values, aliases followed"))
        } else {
            Ok(())
        }
    }
}

/// `<<: *anchor`: entries the mapping does not have itself.
fn merge(entries: &mut Vec<Entry>, from: &Tree) {
    for source in std::slice::from_ref(from).iter().chain(from.items()) {
        let Value::Map(additions) = &source.value else {
            continue;
        };
        let own: BTreeSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        let missing = additions.iter().filter(|addition| !own.contains(&addition.key));
        entries.extend(missing.map(|addition| Entry {
            merged: true,
            ..addition.clone()
        }));
    }
}

/// How many values a tree counts as.
fn size(tree: &Tree) -> usize {
    let text = |text: &str| text.len() / TEXT_PIECE;
    1 + match &tree.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| text(&entry.key) + size(&entry.value))
            .sum(),
        Value::String(value) => text(value),
        _ => 0,
    }
}

/// A plain scalar as kubectl reads it: YAML 1.1 booleans, so that what passes here passes there.
fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Value::Number(number);
    }
    let numeric = text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.'));
    match text
        .parse::<f64>()
        .ok()
        .filter(|_| numeric)
        .and_then(Number::from_f64)
    {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    }
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude }.into())
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
