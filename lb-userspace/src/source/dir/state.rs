//! The file that keeps allocations over restarts.
//!
//! Owns: its format, its place in the state directory, and the lock that lets several agents of one machine
//! share it: whoever holds the lock reads, allocates and writes, so they agree. Must not know: how values
//! are chosen.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::allocate::{Allocation, Allocations};
use crate::model::ServiceKey;

const FILE: &str = "allocations.json";
const LOCK: &str = "allocations.lock";
const VERSION: u32 = 1;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else than allocations.
    #[error("{path}: {reason}; remove the file to have every address allocated afresh")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    /// By `namespace/name`.
    services: BTreeMap<String, Allocation>,
}

/// The allocations of a state directory.
#[derive(Clone, Debug)]
pub(super) struct StateDir {
    directory: PathBuf,
}

/// The state directory while no other agent may change it.
pub(super) struct Locked {
    path: PathBuf,
    // Closing the file gives the lock back.
    _lock: File,
}

impl StateDir {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Waits for the lock, making the directory if need be.
    pub(super) fn lock(&self) -> Result<Locked, StateError> {
        fs::create_dir_all(&self.directory).map_err(at(&self.directory))?;
        let path = self.directory.join(LOCK);
        let lock = File::create(&path).map_err(at(&path))?;
        lock.lock().map_err(at(&path))?;
        Ok(Locked {
            path: self.directory.join(FILE),
            _lock: lock,
        })
    }

    /// The allocations, without a lock and without making anything.
    pub(super) fn peek(&self) -> Result<Allocations, StateError> {
        read(&self.directory.join(FILE))
    }
}

impl Locked {
    /// The allocations; none when nothing was saved yet.
    pub(super) fn load(&self) -> Result<Allocations, StateError> {
        read(&self.path)
    }

    /// Replaces the file as a whole: a crash leaves the old one or the new one.
    pub(super) fn save(&self, allocations: &Allocations) -> Result<(), StateError> {
        let services = allocations
            .iter()
            .map(|(key, allocation)| (key.to_string(), allocation.clone()));
        let content = Content {
            version: VERSION,
            services: services.collect(),
        };
        let text = serde_json::to_string_pretty(&content).map_err(|error| StateError::Content {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        let fresh = self.path.with_extension("json.new");
        let write = || {
            let mut file = File::create(&fresh)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)
        };
        write().map_err(at(&self.path))
    }
}

fn read(path: &Path) -> Result<Allocations, StateError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Allocations::new()),
        Err(error) => return Err(at(path)(error)),
    };
    let wrong = |reason: String| StateError::Content {
        path: path.to_owned(),
        reason,
    };
    let content: Content = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if content.version != VERSION {
        return Err(wrong(format!(
            "version {} where {VERSION} was expected",
            content.version
        )));
    }
    let services = content
        .services
        .into_iter()
        .map(|(key, allocation)| match key.split_once('/') {
            Some((namespace, name)) => Ok((ServiceKey::new(namespace, name), allocation)),
            None => Err(wrong(format!("{key:?} is not namespace/name"))),
        });
    services.collect()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    |source| StateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().join("deep/er"));
        let locked = state.lock().unwrap();
        assert_eq!(locked.load().unwrap(), Allocations::new());
        let allocation = Allocation {
            created: 5,
            cluster_ips: vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            node_ports: [("TCP/80".to_owned(), 30_001)].into(),
            health_check_node_port: Some(30_002),
            load_balancer_ips: vec!["192.0.2.1".parse().unwrap()],
        };
        let allocations = Allocations::from([(ServiceKey::new("a", "b"), allocation)]);
        locked.save(&allocations).unwrap();
        assert_eq!(locked.load().unwrap(), allocations);
        assert_eq!(state.peek().unwrap(), allocations);
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_name_and_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().to_owned());
        for text in [
            "{",
            "{\"version\": 9, \"services\": {}}",
            "{\"version\": 1, \"services\": {\"x\": {}}}",
        ] {
            fs::write(directory.path().join(FILE), text).unwrap();
            let error = state.peek().unwrap_err().to_string();
            assert!(
                error.contains(FILE) && error.contains("remove the file"),
                "{error}"
            );
        }
    }
}
