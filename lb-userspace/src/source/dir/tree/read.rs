//! From text to trees.
//!
//! Owns: cutting a text into documents, the parser's events, anchors and merges, and the bounds on what a text may ask for.
//! Must not know: what the trees are looked at for.

use std::collections::{BTreeMap, BTreeSet};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::scalar::scalar;
use super::{Entry, Tree, Value};

/// Deeper nesting than any object has; bounds recursion.
const MAX_DEPTH: usize = 64;
/// More values than any sensible document has; bounds what aliases can multiply.
const MAX_VALUES: usize = 2_000_000;
/// A text counts as so many values as it has pieces of this length: aliases multiply long texts too.
const TEXT_PIECE: usize = 64;

/// A document that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::dir) struct SyntaxError {
    /// The line, from 1.
    pub(in crate::source::dir) line: usize,
    /// What the parser says.
    pub(in crate::source::dir) reason: String,
}

/// Reads every document of a text; a broken one becomes an error and the others are read all the same.
pub(in crate::source::dir) fn documents(text: &str) -> Vec<Result<Tree, SyntaxError>> {
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
