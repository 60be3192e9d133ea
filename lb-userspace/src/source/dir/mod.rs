//! A directory of manifests as a cluster in miniature.
//!
//! Owns: reading Service, EndpointSlice, Endpoints and Node manifests strictly, filling in and allocating what
//! an API server would, refusing in its words what it would refuse, and following changes. The steps:
//!
//! `watch` → `scan` (files) → `tree`, `decode` (objects with lines) → `catalog` (which object counts) →
//! `defaults` → `validate` → `allocate` → [`model::parse`](crate::model::parse) → the difference as updates.
//!
//! Must not know: the planner, maps, devices.

mod allocate;
mod catalog;
mod decode;
mod defaults;
mod fields;
mod mirror;
mod ranges;
mod request;
mod scan;
mod session;
mod state;
mod stored;
#[cfg(test)]
mod tests;
mod tree;
mod validate;
mod verdict;
mod watch;
mod world;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch as latest};
use tokio_util::sync::CancellationToken;

pub use ranges::{Ranges, RangesError};
pub use state::StateError;
pub use stored::Stored;

use self::session::Session;
use self::watch::DirWatch;
use crate::model::Update;
use crate::source::Report;

/// Catches what notifications miss: files behind symlinks, file systems without notifications.
const RESCAN: Duration = Duration::from_secs(2);
/// A file written less than this ago may not be complete yet.
const SETTLE: Duration = Duration::from_millis(50);
/// Batches that may wait for the agent before the source waits too.
const BATCHES: usize = 16;

/// What to read and what to allocate from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory, or a single file.
    pub path: PathBuf,
    /// The cluster's ranges.
    pub ranges: Ranges,
    /// Where allocations are kept over restarts; agents that share it allocate as one. Without it they are
    /// kept in memory, and are the same after a restart only as far as the manifests are.
    pub state_dir: Option<PathBuf>,
}

/// Why a directory cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// The path cannot be read.
    #[error("{path}: {source}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The saved allocations cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel's file notifications are not to be had.
    #[error("watching for changes: {0}")]
    Watch(#[from] notify::Error),
}

/// A running source.
#[derive(Debug)]
pub struct Source {
    /// Batches of changes; the first one ends with [`Update::InitialListsDone`].
    pub updates: mpsc::Receiver<Vec<Update>>,
    /// The verdict on every object of the directory as it is now, told after the updates that follow from it; what is new in it
    /// is logged too.
    pub report: latest::Receiver<Report>,
}

/// Reads the directory and follows it until `cancel` or until nobody listens. Needs a tokio runtime.
///
/// # Errors
/// The path or the state cannot be read at the start. Later the source keeps what it has and says so.
pub fn spawn(config: Config, cancel: CancellationToken) -> Result<Source, DirError> {
    let watch = DirWatch::new(&config.path)?;
    let session = Session::open(config, SETTLE)?;
    let (updates, updates_receiver) = mpsc::channel(BATCHES);
    let (report, report_receiver) = latest::channel(Report::default());
    let work = follow(session, watch, updates, report);
    tokio::spawn(async move {
        cancel.run_until_cancelled(work).await;
    });
    Ok(Source {
        updates: updates_receiver,
        report: report_receiver,
    })
}

/// Says what would become of every object, from the saved allocations but without changing them.
///
/// # Errors
/// The path or the state cannot be read.
pub fn check(config: Config) -> Result<Report, DirError> {
    let (report, _) = Session::open(config, Duration::ZERO)?.check()?;
    Ok(report)
}

/// The objects of the directory as an API server would store them, from the saved allocations but without changing them.
/// What is refused is not among them; [`check`] says why.
///
/// # Errors
/// The path or the state cannot be read.
pub fn stored(config: Config) -> Result<Stored, DirError> {
    let (_, stored) = Session::open(config, Duration::ZERO)?.check()?;
    Ok(stored)
}

async fn follow(
    mut session: Session,
    mut watch: DirWatch,
    updates: mpsc::Sender<Vec<Update>>,
    report: latest::Sender<Report>,
) {
    loop {
        let step = tokio::task::spawn_blocking(move || {
            let change = session.reload();
            (session, change)
        });
        // The task fails only by a panic, which has been printed, or at the end of the runtime.
        let Ok((back, change)) = step.await else { return };
        session = back;
        if let Some((batch, verdicts)) = change {
            if !batch.is_empty() && updates.send(batch).await.is_err() {
                return;
            }
            report.send_replace(verdicts);
        }
        watch
            .changed(if session.is_settling() { SETTLE } else { RESCAN })
            .await;
        watch.renew();
    }
}
