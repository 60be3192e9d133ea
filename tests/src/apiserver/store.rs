//! What etcd is to the API server: objects, one sequence of resource versions, and the history behind them.
//!
//! Owns: versions, and how long history is kept. Must not know: HTTP, who reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::Value;
use tokio::sync::watch;

use super::object::{assign, identity, merge, set_version, version_of};
use super::resource::Resource;

/// The objects of a cluster. Clones share them; several servers may serve one store.
///
/// Written by tests; every change is seen by all watches of all servers at once.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    compacted: u64,
    objects: BTreeMap<(Resource, String), Arc<Value>>,
    log: Vec<Change>,
    /// How far the readers of the log are.
    cursors: Vec<Weak<AtomicU64>>,
}

/// An entry of the history.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub version: u64,
    pub resource: Resource,
    pub key: String,
    pub old: Option<Arc<Value>>,
    pub new: Option<Arc<Value>>,
}

/// A place in the history of a resource, which it keeps readable from there on.
#[derive(Debug)]
pub(super) struct Cursor {
    store: Store,
    resource: Resource,
    version: Arc<AtomicU64>,
}

/// Why there is no snapshot or no history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was compacted.
    Compacted,
    /// It is to come.
    Future,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store at resource version 1.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            version: 1,
            ..State::default()
        };
        Self {
            inner: Arc::new(Inner {
                version: watch::Sender::new(state.version),
                state: Mutex::new(state),
            }),
        }
    }

    /// The newest resource version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// Creates the object, or replaces the one of its name; returns it as stored. What the API server would assign is assigned:
    /// `uid`, `creationTimestamp`, `resourceVersion`, and `generation` where the kind has one. An object that would not change
    /// stays as it is, with its version.
    ///
    /// # Panics
    /// When it is of no kind that is served, or has no name (or no namespace, where its kind wants one).
    pub fn apply(&self, object: Value) -> Value {
        self.apply_to(&mut self.state(), object)
    }

    /// Changes an object by a JSON merge patch (RFC 7386); `None` when there is none of that name.
    pub fn patch(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Option<Value> {
        let mut state = self.state();
        let key = (resource, resource.key(namespace, name));
        let mut object = Value::clone(state.objects.get(&key)?);
        merge(&mut object, patch);
        Some(self.apply_to(&mut state, object))
    }

    /// Deletes an object; returns it as it was, at the version of its deletion.
    pub fn delete(&self, resource: Resource, namespace: Option<&str>, name: &str) -> Option<Value> {
        let mut state = self.state();
        let version = state.version + 1;
        self.remove(&mut state, resource, resource.key(namespace, name), version)
    }

    /// Stores the object exactly as it is, its `resourceVersion` included, which becomes the store's: for replaying a recording.
    ///
    /// # Panics
    /// When the object has no version, or one that the history has passed by: changes come in order.
    pub fn put_at(&self, object: Value) {
        let (resource, key) = identity(&object);
        let version = version_of(&object).expect("an object with a resourceVersion");
        let mut state = self.state();
        self.write(&mut state, version, resource, key, Some(object));
    }

    /// As [`Store::delete`], with the version of the deletion given.
    ///
    /// # Panics
    /// As [`Store::put_at`].
    pub fn delete_at(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        version: u64,
    ) -> Option<Value> {
        self.remove(
            &mut self.state(),
            resource,
            resource.key(namespace, name),
            version,
        )
    }

    /// Begins anew with these objects at their versions, and a history that begins at `version`. Not for a store that is
    /// watched.
    ///
    /// # Panics
    /// When an object is of no kind that is served, or newer than `version`.
    pub fn restore(&self, objects: impl IntoIterator<Item = Value>, version: u64) {
        let mut state = self.state();
        *state = State {
            version,
            compacted: version,
            ..State::default()
        };
        for object in objects {
            assert!(
                version_of(&object).is_some_and(|own| own <= version),
                "newer than {version}: {object}"
            );
            state.objects.insert(identity(&object), Arc::new(object));
        }
        self.inner.version.send_replace(version);
    }

    /// Moves the version on without a change, as a write to any other resource does.
    pub fn advance_to(&self, version: u64) {
        let mut state = self.state();
        state.version = state.version.max(version);
        self.inner.version.send_replace(state.version);
    }

    /// Forgets history: watches and pages from before `version` are `410 Expired` from now on. Watches that run go on.
    pub fn compact(&self, version: u64) {
        let mut state = self.state();
        state.compacted = state.compacted.max(version.min(state.version));
        state.forget();
    }

    /// An object as it is now.
    #[must_use]
    pub fn get(&self, resource: Resource, namespace: Option<&str>, name: &str) -> Option<Value> {
        let key = (resource, resource.key(namespace, name));
        self.state().objects.get(&key).map(|object| Value::clone(object))
    }

    /// All objects of a resource as they are now, in the order of a list.
    #[must_use]
    pub fn list(&self, resource: Resource) -> Vec<Value> {
        self.state()
            .objects
            .iter()
            .filter(|((of, _), _)| *of == resource)
            .map(|(_, object)| Value::clone(object))
            .collect()
    }

    /// The version before which there is no history.
    pub(super) fn compacted(&self) -> u64 {
        self.state().compacted
    }

    /// The newest version, followed.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// A resource's objects, by key, as they were at `version`.
    pub(super) fn snapshot(
        &self,
        resource: Resource,
        version: u64,
    ) -> Result<BTreeMap<String, Arc<Value>>, Gone> {
        let state = self.state();
        if version > state.version {
            return Err(Gone::Future);
        }
        if version < state.compacted {
            return Err(Gone::Compacted);
        }
        let mut objects: BTreeMap<_, _> = state
            .objects
            .iter()
            .filter(|((of, _), _)| *of == resource)
            .map(|((_, key), object)| (key.clone(), Arc::clone(object)))
            .collect();
        for change in state.after(version).iter().rev() {
            if change.resource != resource {
                continue;
            }
            match &change.old {
                Some(old) => objects.insert(change.key.clone(), Arc::clone(old)),
                None => objects.remove(&change.key),
            };
        }
        Ok(objects)
    }

    /// A reader of a resource's history after `version`. What is compacted later it still reads: a watch that runs has a right
    /// to it.
    pub(super) fn cursor(&self, resource: Resource, version: u64) -> Result<Cursor, Gone> {
        let mut state = self.state();
        if version < state.compacted {
            return Err(Gone::Compacted);
        }
        let version = Arc::new(AtomicU64::new(version));
        state.cursors.push(Arc::downgrade(&version));
        Ok(Cursor {
            store: self.clone(),
            resource,
            version,
        })
    }

    fn apply_to(&self, state: &mut State, mut object: Value) -> Value {
        let (resource, key) = identity(&object);
        let old = state.objects.get(&(resource, key.clone())).cloned();
        assign(&mut object, old.as_deref(), resource);
        if let Some(old) = old
            && *old == object
        {
            return object;
        }
        let version = state.version + 1;
        set_version(&mut object, version);
        self.write(state, version, resource, key, Some(object.clone()));
        object
    }

    fn remove(&self, state: &mut State, resource: Resource, key: String, version: u64) -> Option<Value> {
        let mut object = Value::clone(state.objects.get(&(resource, key.clone()))?);
        self.write(state, version, resource, key, None);
        set_version(&mut object, version);
        Some(object)
    }

    fn write(&self, state: &mut State, version: u64, resource: Resource, key: String, new: Option<Value>) {
        assert!(
            version > state.version,
            "{} {key} at version {version}, and the store is at {} already",
            resource.plural(),
            state.version
        );
        let new = new.map(Arc::new);
        let place = (resource, key.clone());
        let old = match &new {
            Some(object) => state.objects.insert(place, Arc::clone(object)),
            None => state.objects.remove(&place),
        };
        state.log.push(Change {
            version,
            resource,
            key,
            old,
            new,
        });
        state.version = version;
        self.inner.version.send_replace(version);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cursor {
    /// The version up to which it has read.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Reads on up to a version.
    pub(super) fn read(&mut self, up_to: u64) -> Vec<Change> {
        let at = self.version();
        if up_to <= at {
            return Vec::new();
        }
        let state = self.store.state();
        // Under the lock, so that what is read is not forgotten before.
        self.version.store(up_to, Ordering::Relaxed);
        state
            .after(at)
            .iter()
            .take_while(|change| change.version <= up_to)
            .filter(|change| change.resource == self.resource)
            .cloned()
            .collect()
    }
}

impl State {
    /// Drops the history that is compacted and that no cursor has before it.
    fn forget(&mut self) {
        self.cursors.retain(|cursor| cursor.strong_count() > 0);
        let needed = self
            .cursors
            .iter()
            .filter_map(Weak::upgrade)
            .map(|version| version.load(Ordering::Relaxed))
            .fold(self.compacted, u64::min);
        let old = self.log.partition_point(|change| change.version <= needed);
        self.log.drain(..old);
    }

    fn after(&self, version: u64) -> &[Change] {
        let start = self.log.partition_point(|change| change.version <= version);
        &self.log[start..]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn compacted_history_is_kept_for_cursors_only() {
        let store = Store::new();
        let mut cursor = store.cursor(Resource::Nodes, 1).unwrap();
        for name in ["a", "b", "c"] {
            store.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
        }
        let kept = || store.state().log.len();
        store.compact(3);
        assert_eq!(kept(), 3, "the cursor is before all of it");
        assert_eq!(cursor.read(2).len(), 1);
        store.compact(3);
        assert_eq!(kept(), 2);
        drop(cursor);
        store.compact(3);
        assert_eq!(kept(), 1);
        assert!(matches!(store.cursor(Resource::Nodes, 2), Err(Gone::Compacted)));
    }
}
