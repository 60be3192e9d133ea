//! The recorded traffic of a real API server: what was asked, what it answered, and the story that was played meanwhile.
//!
//! The files are in `tests/fixtures/apiserver`, whose README says how they came about. Must not know: the double.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::object::{merge, set_version, version_of};
use super::resource::Resource;
use super::store::Store;

/// The stems of the files, and the resources they are of.
const RESOURCES: [&str; 3] = ["services", "endpointslices", "nodes"];
/// Seconds an event may be stamped before the step that caused it: requests were stamped when their answers came.
const STAMP_SLACK: f64 = 0.05;

/// The recording, read.
#[derive(Debug, Clone)]
pub struct Recording {
    lists: Vec<Exchange>,
    watches: Vec<Stream>,
    streaming_lists: Vec<Stream>,
    refusals: Vec<Exchange>,
    initial: Vec<Value>,
    version: u64,
    steps: Vec<Step>,
}

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// What it is for; empty for pages of a list.
    pub what: String,
    /// Method, path and query: `GET /api/v1/services?limit=5`.
    pub request: String,
    /// The HTTP status.
    pub status: u16,
    /// The body that was sent, if any.
    pub body: Option<Value>,
    /// The answer's body; for a watch that is refused, its one event.
    pub answer: Value,
}

/// A watch, or a streaming list, with all it delivered.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Method, path and query.
    pub request: String,
    /// Its events in order.
    pub events: Vec<StreamEvent>,
}

/// An event as a watch delivered it.
#[derive(Debug, Clone, Deserialize)]
pub struct StreamEvent {
    /// Seconds since the story began.
    pub t: f64,
    /// `{"type": …, "object": …}`.
    pub event: Value,
}

/// Something that was done to the cluster, and what the watches saw of it.
#[derive(Debug, Clone)]
pub struct Step {
    /// What was done.
    pub what: String,
    /// Seconds since the story began.
    pub t: f64,
    /// What the watches delivered, in the order of their versions. Some steps are not seen by any.
    pub changes: Vec<Change>,
}

/// A change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// Of what.
    pub resource: Resource,
    /// What the watch called it.
    pub event: EventType,
    /// What the watch delivered.
    pub object: Value,
    /// What the cluster has since; `None` when the object is gone. An object that merely left the watch's selection is still there.
    pub stored: Option<Value>,
}

/// The type of a watch event that tells a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// `ADDED`.
    Added,
    /// `MODIFIED`.
    Modified,
    /// `DELETED`.
    Deleted,
}

/// A line of `list-*.json`.
#[derive(Deserialize)]
struct ListFile {
    request: String,
    status: u16,
    body: Value,
}

/// An element of `steps.json` and of `refusals.json`.
#[derive(Deserialize)]
struct StepFile {
    #[serde(default)]
    t: f64,
    what: String,
    request: String,
    status: u16,
    body: Option<Value>,
    answer: Value,
}

/// The first line of a stream's file.
#[derive(Deserialize)]
struct StreamHead {
    request: String,
}

impl Recording {
    /// Reads the fixture.
    ///
    /// # Errors
    /// When a file is not there, or not as expected.
    pub fn load() -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/apiserver");
        let mut recording = Self {
            lists: Vec::new(),
            watches: Vec::new(),
            streaming_lists: Vec::new(),
            refusals: exchanges(read_json(&dir.join("refusals.json"))?),
            initial: Vec::new(),
            version: 0,
            steps: Vec::new(),
        };
        for stem in RESOURCES {
            for page in read_json::<Vec<ListFile>>(&dir.join(format!("list-{stem}.json")))? {
                recording.initial.extend(items(&page.body));
                recording.version = version_of(&page.body).context("a list without a version")?;
                recording.lists.push(Exchange {
                    what: String::new(),
                    request: page.request,
                    status: page.status,
                    body: None,
                    answer: page.body,
                });
            }
            recording
                .watches
                .push(read_stream(&dir.join(format!("watch-{stem}.jsonl")))?);
            recording
                .streaming_lists
                .push(read_stream(&dir.join(format!("watchlist-{stem}.jsonl")))?);
        }
        recording.steps = steps(
            read_json(&dir.join("steps.json"))?,
            &recording.watches,
            &recording.initial,
        )?;
        Ok(recording)
    }

    /// The objects before the story, as the first lists had them, each with its `apiVersion` and `kind`.
    #[must_use]
    pub fn initial(&self) -> &[Value] {
        &self.initial
    }

    /// The resource version of the first lists.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The story, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The first lists, page by page.
    #[must_use]
    pub fn lists(&self) -> &[Exchange] {
        &self.lists
    }

    /// The watches from the lists' version on, over the whole story.
    #[must_use]
    pub fn watches(&self) -> &[Stream] {
        &self.watches
    }

    /// The same as streaming lists, begun before the story.
    #[must_use]
    pub fn streaming_lists(&self) -> &[Stream] {
        &self.streaming_lists
    }

    /// Requests that were refused.
    #[must_use]
    pub fn refusals(&self) -> &[Exchange] {
        &self.refusals
    }

    /// Puts the state before the story into a store.
    pub fn restore(&self, store: &Store) {
        store.restore(self.initial.iter().cloned(), self.version);
    }
}

impl Step {
    /// Does to a store what the step did to the cluster, at the recorded versions.
    pub fn play(&self, store: &Store) {
        for change in &self.changes {
            change.play(store);
        }
    }
}

impl Change {
    /// The namespace of the object, where it has one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The version of the change.
    #[must_use]
    pub fn version(&self) -> u64 {
        version_of(&self.object).unwrap_or_default()
    }

    fn play(&self, store: &Store) {
        match &self.stored {
            Some(object) => store.put_at(object.clone()),
            None => {
                store.delete_at(self.resource, self.namespace(), self.name(), self.version());
            }
        }
    }
}

/// Puts each event of the watches under the step it came of.
fn steps(told: Vec<StepFile>, watches: &[Stream], initial: &[Value]) -> Result<Vec<Step>> {
    let mut changes = watches
        .iter()
        .flat_map(|watch| &watch.events)
        .map(|event| Ok((event.t, change(&event.event)?)))
        .collect::<Result<Vec<_>>>()?;
    changes.sort_by_key(|(_, change)| change.version());
    let mut known = initial.to_vec();
    let mut changes = changes.into_iter().peekable();
    let mut steps = Vec::new();
    let mut told = told.into_iter().peekable();
    while let Some(step) = told.next() {
        let end = told.peek().map_or(f64::INFINITY, |next| next.t - STAMP_SLACK);
        let mut of_step = Vec::new();
        while let Some((_, mut change)) = changes.next_if(|(t, _)| *t < end) {
            if change.event == EventType::Deleted {
                change.stored = left_behind(&step, &change, &known);
            }
            known.retain(|object| !same(object, &change.object));
            known.extend(change.stored.clone());
            of_step.push(change);
        }
        steps.push(Step {
            what: step.what,
            t: step.t,
            changes: of_step,
        });
    }
    Ok(steps)
}

/// What is left of an object that a watch called deleted: one that was patched has only left the watch's selection.
fn left_behind(step: &StepFile, change: &Change, known: &[Value]) -> Option<Value> {
    let (method, path) = step.request.split_once(' ')?;
    let suffix = format!("/{}/{}", change.resource.plural(), change.name());
    if method != "PATCH" || !path.ends_with(&suffix) {
        return None;
    }
    let mut object = known.iter().find(|object| same(object, &change.object))?.clone();
    merge(&mut object, step.body.as_ref()?);
    set_version(&mut object, change.version());
    Some(object)
}

fn same(one: &Value, other: &Value) -> bool {
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    uid(one) == uid(other)
}

fn change(event: &Value) -> Result<Change> {
    let object = event["object"].clone();
    let kind = match event["type"].as_str() {
        Some("ADDED") => EventType::Added,
        Some("MODIFIED") => EventType::Modified,
        Some("DELETED") => EventType::Deleted,
        _ => anyhow::bail!("a watch event that tells no change: {event}"),
    };
    Ok(Change {
        resource: Resource::of(&object).with_context(|| format!("of no known resource: {object}"))?,
        event: kind,
        stored: (kind != EventType::Deleted).then(|| object.clone()),
        object,
    })
}

/// The items of a list, made whole.
fn items(list: &Value) -> Vec<Value> {
    let kind = list["kind"].as_str().unwrap_or_default();
    let kind = kind.strip_suffix("List").unwrap_or(kind);
    let mut items = list["items"].as_array().cloned().unwrap_or_default();
    for item in &mut items {
        item["kind"] = kind.into();
        item["apiVersion"] = list["apiVersion"].clone();
    }
    items
}

fn exchanges(file: Vec<StepFile>) -> Vec<Exchange> {
    file.into_iter()
        .map(|exchange| Exchange {
            what: exchange.what,
            request: exchange.request,
            status: exchange.status,
            body: exchange.body,
            answer: exchange.answer,
        })
        .collect()
}

fn read_stream(path: &Path) -> Result<Stream> {
    let text = read(path)?;
    let mut lines = text.lines();
    let head: StreamHead = parse(path, lines.next().unwrap_or_default())?;
    let events = lines.map(|line| parse(path, line)).collect::<Result<_>>()?;
    Ok(Stream {
        request: head.request,
        events,
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_json::from_str(text).with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_watches_belongs_to_the_step_that_caused_it() {
        let recording = Recording::load().unwrap();
        let seen: Vec<_> = recording
            .steps()
            .iter()
            .map(|step| {
                let changes: Vec<_> = step
                    .changes
                    .iter()
                    .map(|change| format!("{:?} {}", change.event, change.name()))
                    .collect();
                (step.what.as_str(), changes.join(", "))
            })
            .collect();
        let expected = [
            ("create a service with a selector", "Added roll, Added roll-cc4hn"),
            ("pod 1, no address yet", ""),
            ("pod 1 gets its address, not ready", "Modified roll-cc4hn"),
            ("pod 1 ready", "Modified roll-cc4hn"),
            ("pod 2 with another number behind the same port name", ""),
            ("pod 2 ready", "Added roll-j9dv4"),
            ("pod 1 deleted: terminating, still serving", "Modified roll-cc4hn"),
            ("pod 1 terminating and no longer serving", "Modified roll-cc4hn"),
            ("pod 1 gone", ""),
            ("pod 1 gone for good", "Deleted roll-cc4hn"),
            ("session affinity on", "Modified roll"),
            ("type NodePort", "Modified roll"),
            ("type LoadBalancer, externalTrafficPolicy Local", "Modified roll"),
            ("status gets an address", "Modified roll"),
            (
                "trafficDistribution PreferSameZone",
                "Modified roll, Modified roll-j9dv4",
            ),
            ("back to ClusterIP", "Modified roll, Modified roll-j9dv4"),
            ("port changed", "Modified roll"),
            (
                "handed to another proxy by label: leaves the selection",
                "Deleted roll, Modified roll-j9dv4",
            ),
            ("and back", "Added roll, Modified roll-j9dv4"),
            ("selector-less service", "Added manual"),
            (
                "hand-made Endpoints, mirrored by the controller",
                "Added manual-dth2z",
            ),
            ("ExternalName", "Modified manual"),
            ("node taint ToBeDeletedByClusterAutoscaler", "Modified node1"),
            ("taint removed, zone label changed", "Modified node1"),
            ("zone back", "Modified node1"),
            ("service deleted", "Deleted roll, Deleted roll-j9dv4"),
            ("service deleted", "Deleted manual, Deleted manual-dth2z"),
        ];
        assert_eq!(seen, expected.map(|(what, changes)| (what, changes.to_owned())));
    }

    #[test]
    fn a_service_that_only_leaves_the_selection_stays_in_the_cluster() {
        let recording = Recording::load().unwrap();
        let left: Vec<_> = recording
            .steps()
            .iter()
            .flat_map(|step| &step.changes)
            .filter(|change| change.event == EventType::Deleted && change.stored.is_some())
            .collect();
        let [change] = left.as_slice() else {
            panic!("one, not {left:?}")
        };
        let stored = change.stored.as_ref().unwrap();
        assert_eq!(
            stored["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"],
            "other"
        );
        assert_eq!(version_of(stored), Some(406));
    }
}
