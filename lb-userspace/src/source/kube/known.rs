//! What a source remembers of the objects it has told of.
//!
//! Owns: which update follows from an object, an event, a whole list; what is said about an object, once. Pure. Must not know: the
//! objects themselves, which are the agent's.

use std::collections::BTreeMap;

use super::decode::Identity;
use super::resource::{Key, Reading, Resource};
use crate::model::{Problem, Update};
use crate::source::events::{ObjectEvent, Reason};

/// The objects of one resource.
#[derive(Debug)]
pub(super) struct Known {
    resource: Resource,
    held: BTreeMap<Key, Held>,
}

/// An object, as far as it is remembered.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    uid: Box<str>,
    version: Box<str>,
    /// The agent has it, in this version or an earlier one.
    applied: bool,
    /// What was said about it last.
    said: Option<Box<str>>,
}

/// What follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Consequences {
    pub(super) updates: Vec<Update>,
    pub(super) remarks: Vec<Remark>,
}

/// Something to say about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) event: ObjectEvent,
    /// An earlier version of the object is in force.
    pub(super) kept: bool,
}

/// A list that is not complete yet. Nothing follows from it before it is.
#[derive(Debug, Default)]
pub(super) struct Listing {
    seen: BTreeMap<Key, Seen>,
    /// An element had no name: it may be any one of the objects that seem to be gone.
    nameless: Option<Reading>,
}

#[derive(Debug)]
enum Seen {
    /// As it is known.
    Same,
    Read(Identity, Reading),
}

impl Known {
    /// Nothing yet.
    pub(super) fn new(resource: Resource) -> Self {
        Self {
            resource,
            held: BTreeMap::new(),
        }
    }

    /// The resource.
    pub(super) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// An element of a list, or an event of a streaming one. `read` is called only when it tells something new.
    pub(super) fn collect(
        &self,
        listing: &mut Listing,
        identity: Identity,
        read: impl FnOnce(&Resource) -> Reading,
    ) {
        if identity.name.is_empty() {
            listing.nameless = Some(read(&self.resource));
            return;
        }
        let key = self.key(&identity);
        let same = self.held.get(&key).is_some_and(|held| {
            *held.uid == *identity.uid
                && *held.version == *identity.resource_version
                && !identity.resource_version.is_empty()
        });
        let seen = if same {
            Seen::Same
        } else {
            Seen::Read(identity, read(&self.resource))
        };
        listing.seen.insert(key, seen);
    }

    /// An object that left while a streaming list was running.
    pub(super) fn uncollect(&self, listing: &mut Listing, identity: &Identity) {
        listing.seen.remove(&self.key(identity));
    }

    /// A list is complete: what is not in it is gone.
    pub(super) fn listed(&mut self, listing: Listing) -> Consequences {
        let mut consequences = Consequences::default();
        if let Some(reading) = listing.nameless {
            // Nothing is removed on the word of a list that cannot be read to its end.
            consequences.remarks.extend(self.nameless(&reading));
        } else {
            let gone: Vec<Key> = self
                .held
                .keys()
                .filter(|key| !listing.seen.contains_key(key))
                .cloned()
                .collect();
            for key in gone {
                self.drop(key, &mut consequences);
            }
        }
        for (key, seen) in listing.seen {
            if let Seen::Read(identity, reading) = seen {
                self.take(key, identity, reading, &mut consequences);
            }
        }
        consequences
    }

    /// An object came or changed.
    pub(super) fn applied(
        &mut self,
        identity: Identity,
        read: impl FnOnce(&Resource) -> Reading,
    ) -> Consequences {
        let mut consequences = Consequences::default();
        let reading = read(&self.resource);
        if identity.name.is_empty() {
            consequences.remarks.extend(self.nameless(&reading));
        } else {
            self.take(self.key(&identity), identity, reading, &mut consequences);
        }
        consequences
    }

    /// An object left.
    pub(super) fn deleted(&mut self, identity: &Identity) -> Consequences {
        let mut consequences = Consequences::default();
        self.drop(self.key(identity), &mut consequences);
        consequences
    }

    /// Versions seen so far mean nothing: the next list is told whole.
    pub(super) fn distrust(&mut self) {
        for held in self.held.values_mut() {
            held.version = Box::default();
        }
    }

    fn key(&self, identity: &Identity) -> Key {
        self.resource
            .key(identity.namespace.clone(), identity.name.clone())
    }

    fn drop(&mut self, key: Key, consequences: &mut Consequences) {
        if self.held.remove(&key).is_some_and(|held| held.applied) {
            consequences.updates.push(self.resource.gone(key));
        }
    }

    fn take(&mut self, key: Key, identity: Identity, reading: Reading, consequences: &mut Consequences) {
        let before = self.held.remove(&key);
        let said = before.as_ref().and_then(|held| held.said.clone());
        let was_applied = before.as_ref().is_some_and(|held| held.applied);
        let is_another = before.is_some_and(|held| *held.uid != *identity.uid);
        let (applied, problems, reason) = match reading {
            Reading::Accepted { update, warnings } => {
                consequences.updates.push(*update);
                (true, warnings, Reason::PartIgnored)
            }
            Reading::Skipped => (false, Vec::new(), Reason::PartIgnored),
            // The last good version stays in force, but not one of another object of this name.
            Reading::Refused(problems) => (was_applied && !is_another, problems, Reason::Refused),
        };
        if was_applied && !applied {
            consequences.updates.push(self.resource.gone(key.clone()));
        }
        let note = (!problems.is_empty()).then(|| words(&problems).into_boxed_str());
        if let Some(note) = &note
            && said.as_ref() != Some(note)
        {
            consequences.remarks.push(Remark {
                event: ObjectEvent {
                    object: self.resource.object_ref(&key),
                    uid: identity.uid.clone(),
                    reason,
                    note: note.to_string(),
                },
                kept: applied,
            });
        }
        let held = Held {
            uid: identity.uid.into(),
            version: identity.resource_version.into(),
            applied,
            said: note,
        };
        self.held.insert(key, held);
    }

    fn nameless(&self, reading: &Reading) -> Option<Remark> {
        let Reading::Refused(problems) = reading else {
            return None;
        };
        let nobody = self.resource.key(String::new(), String::new());
        Some(Remark {
            event: ObjectEvent {
                object: self.resource.object_ref(&nobody),
                uid: String::new(),
                reason: Reason::Refused,
                note: words(problems),
            },
            kept: false,
        })
    }
}

fn words(problems: &[Problem]) -> String {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    words.join("; ")
}
