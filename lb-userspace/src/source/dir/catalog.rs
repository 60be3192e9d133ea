//! The objects in force, and what changes when the files do.
//!
//! Owns: which object of which file counts, what stays in force when a new version is refused, and the
//! difference to what was delivered. Must not know: how files are found, or the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::allocate::Allocator;
use super::decode::{Content, Decoded};
use super::request::requested_ips;
use super::scan::Scanned;
use super::stored::Stored;
use super::tree::Tree;
use super::verdict::{self, Verdict};
use super::world::{InForce, World, service_ref};
use crate::model::{ObjectRef, Problem, ServiceKey, Update};
use crate::source::{Entry, LocatedProblem, Location, Outcome, Report};

/// What is in force, and what was delivered.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    in_force: BTreeMap<ObjectRef, InForce>,
    delivered: World,
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
            mentioned: BTreeSet::new(),
            settled: BTreeMap::new(),
            entries: Vec::new(),
        };
        let (candidates, is_complete) = pass.collect(files);
        if is_complete {
            // With a file unreadable nobody can tell which Services are gone.
            let gone: Vec<ServiceKey> = allocator
                .held()
                .keys()
                .filter(|key| !pass.mentioned.contains(&service_ref(key)))
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

    /// The objects in force, as an API server would hold them.
    pub(super) fn stored(&self) -> Stored {
        Stored::of(&self.in_force)
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
///
/// An object that stands in several places is the first good one of them, in the order of files and lines. A
/// refused version keeps the place of the version it was to replace, if that came from the same file; an object
/// whose every version is refused keeps its last good one.
struct Pass<'a> {
    previous: &'a BTreeMap<ObjectRef, InForce>,
    next: BTreeMap<ObjectRef, InForce>,
    /// Every object that any file names, good or not.
    mentioned: BTreeSet<ObjectRef>,
    /// Where the version in `next` stands, for the objects that have one.
    settled: BTreeMap<ObjectRef, Location>,
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
            if !self.mentioned.contains(object) {
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
        self.mentioned.insert(object.clone());
        match &decoded.content {
            Ok(content) => Some(Candidate {
                location,
                object,
                tree: decoded.tree.clone(),
                content: content.clone(),
            }),
            Err(problems) => {
                let located = problems.iter().map(|(line, problem)| LocatedProblem {
                    location: Location {
                        file: path.to_owned(),
                        line: *line,
                    },
                    problem: problem.clone(),
                });
                self.refuse(location, object, located.collect());
                None
            }
        }
    }

    fn judge(&mut self, mut candidates: Vec<Candidate>, allocator: &mut Allocator, now: i64) {
        let mut ranks: BTreeMap<ObjectRef, u8> = BTreeMap::new();
        for candidate in &candidates {
            let rank = candidate.rank(allocator);
            let best = ranks.entry(candidate.object.clone()).or_insert(rank);
            *best = rank.min(*best);
        }
        // Stable, so that versions of one object stay in the order of files and lines.
        candidates.sort_by_key(|candidate| ranks.get(&candidate.object).copied());
        let (endpoints, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|candidate| matches!(candidate.content, Content::Endpoints(_)));
        for candidate in others {
            self.settle(candidate, allocator, now);
        }
        // `Endpoints` need to know every Service, also those that are kept.
        self.keep_the_rest();
        for candidate in endpoints {
            self.settle(candidate, allocator, now);
        }
        self.keep_the_rest();
    }

    fn settle(&mut self, candidate: Candidate, allocator: &mut Allocator, now: i64) {
        if let Some(first) = self.settled.get(&candidate.object) {
            let ObjectRef { kind, name, .. } = &candidate.object;
            let plural = kind.to_lowercase() + if kind.ends_with('s') { "" } else { "s" };
            let words = format!("{plural} {name:?} already exists ({first})");
            let line = candidate.tree.line_of("metadata.name");
            let location = Location {
                file: candidate.location.file.clone(),
                line,
            };
            let problems = vec![LocatedProblem {
                location,
                problem: Problem::new("", words),
            }];
            let outcome = Outcome::Refused {
                problems,
                kept: false,
            };
            self.report(candidate.location, candidate.object, outcome, Vec::new());
            return;
        }
        let judged = match &candidate.content {
            Content::Service(object) => verdict::service((**object).clone(), allocator, now),
            Content::EndpointSlice(object) => verdict::endpoint_slice((**object).clone()),
            Content::Endpoints(object) => verdict::endpoints((**object).clone(), &self.next),
            Content::Node(object) => verdict::node(object),
            Content::Other => return,
        };
        match judged {
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
                self.settled
                    .insert(candidate.object.clone(), candidate.location.clone());
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

    /// Refuses an object whole; its earlier version, if this was to replace it, stays in force.
    fn refuse(&mut self, location: Location, object: ObjectRef, problems: Vec<LocatedProblem>) {
        let old = self.previous.get(&object).filter(|old| old.file == location.file);
        let kept = match old {
            Some(old) if !self.settled.contains_key(&object) => {
                self.next.insert(object.clone(), old.clone());
                self.settled.insert(object.clone(), location.clone());
                true
            }
            _ => false,
        };
        self.report(location, object, Outcome::Refused { problems, kept }, Vec::new());
    }

    /// Objects that are named, but only by refused versions in other files than before.
    fn keep_the_rest(&mut self) {
        for entry in &mut self.entries {
            let (Some(object), Outcome::Refused { kept, .. }) = (&entry.object, &mut entry.outcome) else {
                continue;
            };
            if let Some(old) = self.previous.get(object)
                && !self.next.contains_key(object)
            {
                self.next.insert(object.clone(), old.clone());
                self.settled.insert(object.clone(), entry.location.clone());
                *kept = true;
            }
        }
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
