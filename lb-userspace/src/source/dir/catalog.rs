//! The objects in force, and what changes when the files do.
//!
//! Owns: which object of which file counts, what stays in force when a new version is refused, and the
//! difference to what was delivered. Must not know: how files are found, or the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;

use super::allocate::{Allocator, requested_ips};
use super::decode::{Content, Decoded};
use super::scan::Scanned;
use super::tree::Tree;
use super::{defaults, mirror, validate};
use crate::model::parse::{self, Parsed};
use crate::model::{
    EndpointSlice, Node, ObjectRef, Problem, Rejection, Service, ServiceKey, SliceKey, Update,
};
use crate::source::{Entry, LocatedProblem, Location, Outcome, Report};

/// What is in force, and what was delivered.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    in_force: BTreeMap<ObjectRef, InForce>,
    delivered: World,
}

#[derive(Clone, Debug)]
struct InForce {
    file: PathBuf,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Service {
        /// Absent when the proxy has nothing to do with it.
        service: Option<Box<Service>>,
        has_selector: bool,
    },
    EndpointSlice(Option<EndpointSlice>),
    /// Kept as it is: whether it counts depends on its Service.
    Endpoints(Box<v1::Endpoints>),
    Node(Node),
}

#[derive(Debug, Default)]
struct World {
    services: BTreeMap<ServiceKey, Service>,
    slices: BTreeMap<SliceKey, EndpointSlice>,
    nodes: BTreeMap<String, Node>,
}

impl Catalog {
    /// Takes the files as they are now; `now` in seconds since 1970.
    pub(super) fn reload(
        &mut self,
        files: &BTreeMap<PathBuf, Scanned>,
        allocator: &mut Allocator,
        now: i64,
    ) -> (Vec<Update>, Report) {
        let mut pass = Pass {
            previous: &self.in_force,
            next: BTreeMap::new(),
            seen: BTreeMap::new(),
            entries: Vec::new(),
        };
        let (candidates, is_complete) = pass.collect(files);
        if is_complete {
            // With a file unreadable nobody can tell which Services are gone.
            let gone: Vec<ServiceKey> = allocator
                .held()
                .keys()
                .filter(|key| !pass.seen.contains_key(&service_ref(key)))
                .cloned()
                .collect();
            for key in gone {
                allocator.release(&key);
            }
        }
        pass.judge(candidates, allocator, now);
        let Pass {
            next, mut entries, ..
        } = pass;
        entries.sort_by(|left, right| left.location.cmp(&right.location));
        self.in_force = next;
        let world = World::of(&self.in_force);
        let updates = self.delivered.difference(&world);
        self.delivered = world;
        (updates, Report { entries })
    }
}

/// A decoded object on its way to be in force.
struct Candidate {
    location: Location,
    object: ObjectRef,
    tree: Tree,
    content: Content,
}

impl Candidate {
    /// Services first, because slices of `Endpoints` depend on them; among Services those that hold something
    /// or ask for something, so that a free choice never takes what somebody has a claim to.
    fn rank(&self, allocator: &Allocator) -> u8 {
        match &self.content {
            Content::Service(service) => {
                let key = ServiceKey::new(self.object.namespace.clone(), self.object.name.clone());
                let spec = service.spec.as_ref();
                let asks = spec.is_some_and(|spec| {
                    let mut ports = spec.ports.iter().flatten();
                    !requested_ips(spec).is_empty()
                        || spec.health_check_node_port.is_some()
                        || spec.load_balancer_ip.is_some()
                        || ports.any(|port| port.node_port.is_some())
                        || service.status.is_some()
                });
                if allocator.held().contains_key(&key) {
                    0
                } else if asks {
                    1
                } else {
                    2
                }
            }
            Content::EndpointSlice(_) | Content::Node(_) | Content::Other => 3,
            Content::Endpoints(_) => 4,
        }
    }

    fn locate(&self, problem: Problem) -> LocatedProblem {
        let spec = self.tree.get("spec");
        let has_list = spec.is_some_and(|spec| spec.get("clusterIPs").is_some());
        // The API server speaks of the list even where the manifest has the single field.
        let line = match problem.field.strip_prefix("spec.clusterIPs") {
            Some(_) if !has_list => self.tree.line_of("spec.clusterIP"),
            _ => self.tree.line_of(&problem.field),
        };
        LocatedProblem {
            location: Location {
                file: self.location.file.clone(),
                line,
            },
            problem,
        }
    }
}

/// One look at all files.
struct Pass<'a> {
    previous: &'a BTreeMap<ObjectRef, InForce>,
    next: BTreeMap<ObjectRef, InForce>,
    seen: BTreeMap<ObjectRef, Location>,
    entries: Vec<Entry>,
}

impl Pass<'_> {
    /// Everything that could be decoded; false when some text could not be read at all.
    fn collect(&mut self, files: &BTreeMap<PathBuf, Scanned>) -> (Vec<Candidate>, bool) {
        let mut candidates = Vec::new();
        let mut broken = BTreeSet::new();
        for (path, file) in files {
            match file {
                Err(reason) => {
                    self.unreadable(path, 0, reason);
                    broken.insert(path.clone());
                }
                Ok(file) => {
                    for error in &file.errors {
                        self.unreadable(path, error.line, &error.reason);
                        broken.insert(path.clone());
                    }
                    candidates.extend(
                        file.objects
                            .iter()
                            .filter_map(|decoded| self.admit(path, decoded)),
                    );
                }
            }
        }
        for (object, old) in self.previous.iter().filter(|(_, old)| broken.contains(&old.file)) {
            if !self.seen.contains_key(object) {
                self.next.insert(object.clone(), old.clone());
            }
        }
        (candidates, broken.is_empty())
    }

    fn unreadable(&mut self, path: &Path, line: usize, reason: &str) {
        let location = Location {
            file: path.to_owned(),
            line,
        };
        let problem = LocatedProblem {
            location: location.clone(),
            problem: Problem::new("", reason),
        };
        let kept = self.previous.values().any(|old| old.file == path);
        let outcome = Outcome::Refused {
            problems: vec![problem],
            kept,
        };
        self.entries.push(Entry {
            location,
            object: None,
            outcome,
            warnings: Vec::new(),
        });
    }

    fn admit(&mut self, path: &Path, decoded: &Decoded) -> Option<Candidate> {
        let location = Location {
            file: path.to_owned(),
            line: decoded.tree.line,
        };
        let object = decoded.object.clone();
        if let Ok(Content::Other) = decoded.content {
            let reason = format!("a {} is nothing a Service proxy reads", object.kind);
            self.report(location, object, Outcome::Skipped(reason), Vec::new());
            return None;
        }
        let at = |line| Location {
            file: path.to_owned(),
            line,
        };
        if let Some(first) = self.seen.get(&object) {
            let words = format!(
                "{}s {:?} already exists ({first})",
                object.kind.to_lowercase(),
                object.name
            );
            let location_of_name = at(decoded.tree.line_of("metadata.name"));
            let problem = LocatedProblem {
                location: location_of_name,
                problem: Problem::new("", words),
            };
            let outcome = Outcome::Refused {
                problems: vec![problem],
                kept: false,
            };
            self.report(location, object, outcome, Vec::new());
            return None;
        }
        if !object.name.is_empty() {
            self.seen.insert(object.clone(), location.clone());
        }
        match &decoded.content {
            Ok(content) => Some(Candidate {
                location,
                object,
                tree: decoded.tree.clone(),
                content: content.clone(),
            }),
            Err(problems) => {
                let problems = problems.iter().map(|(line, problem)| LocatedProblem {
                    location: at(*line),
                    problem: problem.clone(),
                });
                self.refuse(location, object, problems.collect());
                None
            }
        }
    }

    fn judge(&mut self, mut candidates: Vec<Candidate>, allocator: &mut Allocator, now: i64) {
        candidates.sort_by_key(|candidate| candidate.rank(allocator));
        for candidate in candidates {
            let verdict = match &candidate.content {
                Content::Service(object) => service((**object).clone(), allocator, now),
                Content::EndpointSlice(object) => endpoint_slice((**object).clone()),
                Content::Endpoints(object) => self.endpoints((**object).clone()),
                Content::Node(object) => node(object),
                Content::Other => continue,
            };
            match verdict {
                Ok(Verdict {
                    value,
                    outcome,
                    warnings,
                }) => {
                    let warnings = warnings
                        .into_iter()
                        .map(|problem| candidate.locate(problem))
                        .collect();
                    let file = candidate.location.file.clone();
                    self.next
                        .insert(candidate.object.clone(), InForce { file, value });
                    self.report(candidate.location, candidate.object, outcome, warnings);
                }
                Err(problems) => {
                    let problems = problems
                        .into_iter()
                        .map(|problem| candidate.locate(problem))
                        .collect();
                    self.refuse(candidate.location, candidate.object, problems);
                }
            }
        }
    }

    fn endpoints(&self, mut object: v1::Endpoints) -> Result<Verdict, Vec<Problem>> {
        defaults::endpoints(&mut object);
        let problems = validate::endpoints(&object);
        if !problems.is_empty() {
            return Err(problems);
        }
        let (outcome, warnings) = match mirrored(&object, &self.next) {
            Ok((service, slices)) => (
                Outcome::Endpoints(service, slices),
                mirror::warning(&object).into_iter().collect(),
            ),
            Err(reason) => (Outcome::Skipped(reason), Vec::new()),
        };
        Ok(Verdict {
            value: Value::Endpoints(Box::new(object)),
            outcome,
            warnings,
        })
    }

    /// Refuses an object whole; its earlier version stays in force.
    fn refuse(&mut self, location: Location, object: ObjectRef, problems: Vec<LocatedProblem>) {
        let old = self.previous.get(&object);
        if let Some(old) = old {
            self.next.insert(object.clone(), old.clone());
        }
        self.report(
            location,
            object,
            Outcome::Refused {
                problems,
                kept: old.is_some(),
            },
            Vec::new(),
        );
    }

    fn report(
        &mut self,
        location: Location,
        object: ObjectRef,
        outcome: Outcome,
        warnings: Vec<LocatedProblem>,
    ) {
        self.entries.push(Entry {
            location,
            object: Some(object),
            outcome,
            warnings,
        });
    }
}

struct Verdict {
    value: Value,
    outcome: Outcome,
    warnings: Vec<Problem>,
}

fn service(mut object: v1::Service, allocator: &mut Allocator, now: i64) -> Result<Verdict, Vec<Problem>> {
    defaults::service(&mut object);
    let problems = validate::service(&object);
    if !problems.is_empty() {
        return Err(problems);
    }
    let has_selector = object
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
        .is_some_and(|map| !map.is_empty());
    let mut warnings = allocator.admit(&mut object, now)?;
    let (service, outcome) = match parse::service(&object).map_err(problems_of)? {
        Parsed::Accepted {
            value,
            warnings: more,
        } => {
            warnings.extend(more);
            (Some(Box::new(value.clone())), Outcome::Service(Box::new(value)))
        }
        Parsed::Skipped(skip) => (None, Outcome::Skipped(skip.to_string())),
    };
    Ok(Verdict {
        value: Value::Service {
            service,
            has_selector,
        },
        outcome,
        warnings,
    })
}

fn endpoint_slice(mut object: discovery::EndpointSlice) -> Result<Verdict, Vec<Problem>> {
    defaults::endpoint_slice(&mut object);
    let problems = validate::endpoint_slice(&object);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(match parse::endpoint_slice(&object).map_err(problems_of)? {
        Parsed::Accepted { value, warnings } => Verdict {
            value: Value::EndpointSlice(Some(value.clone())),
            outcome: Outcome::EndpointSlice(value),
            warnings,
        },
        Parsed::Skipped(skip) => Verdict {
            value: Value::EndpointSlice(None),
            outcome: Outcome::Skipped(skip.to_string()),
            warnings: Vec::new(),
        },
    })
}

fn node(object: &v1::Node) -> Result<Verdict, Vec<Problem>> {
    match parse::node(object).map_err(problems_of)? {
        Parsed::Accepted { value, warnings } => Ok(Verdict {
            value: Value::Node(value.clone()),
            outcome: Outcome::Node(value),
            warnings,
        }),
        Parsed::Skipped(skip) => Err(vec![Problem::new("", skip.to_string())]),
    }
}

fn problems_of(rejection: Rejection) -> Vec<Problem> {
    rejection.problems
}

fn service_ref(key: &ServiceKey) -> ObjectRef {
    ObjectRef::new("Service", key.namespace.clone(), key.name.clone())
}

/// The slices an `Endpoints` object stands for, or why it stands for none.
fn mirrored(
    object: &v1::Endpoints,
    objects: &BTreeMap<ObjectRef, InForce>,
) -> Result<(ServiceKey, Vec<EndpointSlice>), String> {
    if let Some(reason) = mirror::left_alone(object) {
        return Err(reason);
    }
    let metadata = &object.metadata;
    let key = ServiceKey::new(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    );
    match objects.get(&service_ref(&key)).map(|in_force| &in_force.value) {
        Some(Value::Service {
            has_selector: true, ..
        }) => Err(format!(
            "Service {key} has a selector, so its endpoints come from EndpointSlices"
        )),
        Some(Value::Service { service: None, .. }) => Err(format!("Service {key} is not served")),
        Some(_) => {
            let slices =
                mirror::slices(object)
                    .into_iter()
                    .filter_map(|slice| match parse::endpoint_slice(&slice) {
                        Ok(Parsed::Accepted { value, .. }) => Some(value),
                        // The object was validated, and the label is ours.
                        Ok(Parsed::Skipped(_)) | Err(_) => None,
                    });
            Ok((key, slices.collect()))
        }
        None => Err(format!("there is no Service {key}")),
    }
}

impl World {
    fn of(objects: &BTreeMap<ObjectRef, InForce>) -> Self {
        let mut world = Self::default();
        for in_force in objects.values() {
            match &in_force.value {
                Value::Service { service, .. } => {
                    world.services.extend(
                        service
                            .iter()
                            .map(|service| (service.key.clone(), (**service).clone())),
                    );
                }
                Value::EndpointSlice(slice) => {
                    world
                        .slices
                        .extend(slice.iter().map(|slice| (slice.key.clone(), slice.clone())));
                }
                Value::Endpoints(object) => {
                    let slices = mirrored(object, objects)
                        .map(|(_, slices)| slices)
                        .unwrap_or_default();
                    world
                        .slices
                        .extend(slices.into_iter().map(|slice| (slice.key.clone(), slice)));
                }
                Value::Node(node) => {
                    world.nodes.insert(node.name.clone(), node.clone());
                }
            }
        }
        world
    }

    /// What turns this world into `next`: endpoints before the Services that use them, and the other way round
    /// on removal, so that no batch ever leaves a Service without the endpoints it had and will have.
    fn difference(&self, next: &Self) -> Vec<Update> {
        let mut updates = Vec::new();
        updates.extend(applied(&self.nodes, &next.nodes).map(Update::NodeApplied));
        updates.extend(applied(&self.slices, &next.slices).map(Update::SliceApplied));
        updates.extend(applied(&self.services, &next.services).map(Update::ServiceApplied));
        updates.extend(deleted(&self.services, &next.services).map(Update::ServiceDeleted));
        updates.extend(deleted(&self.slices, &next.slices).map(Update::SliceDeleted));
        updates.extend(deleted(&self.nodes, &next.nodes).map(Update::NodeDeleted));
        updates
    }
}

fn applied<K: Ord, V: Clone + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> impl Iterator<Item = V> {
    new.iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .map(|(_, value)| value.clone())
}

fn deleted<K: Ord + Clone, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    old.keys().filter(|key| !new.contains_key(key)).cloned()
}
