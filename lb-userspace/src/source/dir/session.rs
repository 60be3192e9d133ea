//! One source's state between two looks at the directory.
//!
//! Owns: the order scan, lock, allocate, save, log. Must not know: when to look.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::allocate::{Allocations, Allocator};
use super::catalog::Catalog;
use super::ranges::Ranges;
use super::scan::Scanner;
use super::state::{StateDir, StateError};
use super::stored::Stored;
use super::{Config, DirError};
use crate::model::Update;
use crate::source::{Entry, Report};

#[derive(Debug)]
pub(super) struct Session {
    path: PathBuf,
    ranges: Ranges,
    state: Option<StateDir>,
    /// The allocations as last seen or made.
    allocations: Allocations,
    scanner: Scanner,
    catalog: Catalog,
    /// The initial lists were delivered.
    started: bool,
    /// A change was seen that could not be worked in yet.
    pending: bool,
    complaints: BTreeSet<String>,
}

impl Session {
    /// Reads the state and checks the path, so that a wrong one is an error and not an empty cluster.
    /// Files younger than `settle` are left for a later look.
    pub(super) fn open(config: Config, settle: Duration) -> Result<Self, DirError> {
        let Config {
            path,
            ranges,
            state_dir,
        } = config;
        std::fs::metadata(&path).map_err(|source| DirError::Path {
            path: path.clone(),
            source,
        })?;
        let state = state_dir.map(StateDir::new);
        let allocations = state
            .as_ref()
            .map(StateDir::peek)
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            scanner: Scanner::new(path.clone(), settle),
            path,
            ranges,
            state,
            allocations,
            catalog: Catalog::default(),
            started: false,
            pending: true,
            complaints: BTreeSet::new(),
        })
    }

    /// Looks at the directory; nothing when it is as before.
    pub(super) fn reload(&mut self) -> Option<(Vec<Update>, Report)> {
        match self.scanner.scan() {
            Ok(changed) => self.pending |= changed,
            Err(error) => {
                // A directory that is gone may be on its way back; deleting everything on its word would
                // cut every connection of a node whose disk hiccups.
                let words = format!("{}: {error}; the last objects stay in force", self.path.display());
                self.complain(BTreeSet::from([words]));
                return None;
            }
        }
        // The first list must be whole.
        if !self.pending || (!self.started && self.scanner.is_settling()) {
            return None;
        }
        match self.work() {
            Ok((mut updates, report)) => {
                self.pending = false;
                self.complain(report.entries.iter().flat_map(Entry::complaints).collect());
                if !self.started {
                    self.started = true;
                    updates.push(Update::InitialListsDone);
                }
                Some((updates, report))
            }
            Err(error) => {
                self.complain(BTreeSet::from([format!("{error}; trying again")]));
                None
            }
        }
    }

    /// Whether a file should be looked at again in a moment.
    pub(super) fn is_settling(&self) -> bool {
        self.scanner.is_settling()
    }

    /// One look, nothing saved: the verdicts, and the objects in force.
    pub(super) fn check(mut self) -> Result<(Report, Stored), DirError> {
        self.scanner.scan().map_err(|source| DirError::Path {
            path: self.path.clone(),
            source,
        })?;
        let mut allocator = Allocator::new(self.ranges.clone(), self.allocations);
        let (_, report) = self.catalog.reload(self.scanner.files(), &mut allocator, now());
        Ok((report, self.catalog.stored()))
    }

    fn work(&mut self) -> Result<(Vec<Update>, Report), StateError> {
        let locked = self.state.as_ref().map(StateDir::lock).transpose()?;
        if let Some(locked) = &locked {
            self.allocations = locked.load()?;
        }
        let mut allocator = Allocator::new(self.ranges.clone(), self.allocations.clone());
        let change = self.catalog.reload(self.scanner.files(), &mut allocator, now());
        if *allocator.held() != self.allocations {
            self.allocations.clone_from(allocator.held());
            if let Some(Err(error)) = locked.map(|locked| locked.save(&self.allocations)) {
                // The objects are in force by now; what is lost is the memory over a restart.
                tracing::error!(%error, "allocations could not be saved");
            }
        }
        Ok(change)
    }

    /// Logs what was not said the last time.
    fn complain(&mut self, complaints: BTreeSet<String>) {
        for line in complaints.difference(&self.complaints) {
            tracing::warn!("{line}");
        }
        self.complaints = complaints;
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
