//! Where the agent's Services, EndpointSlices and Nodes come from.
//!
//! Every source delivers batches of [`Update`](crate::model::Update)s over a channel: first everything
//! there is, closed by `InitialListsDone`, then what changes. [`dir`] reads a directory of manifests; the
//! Kubernetes API is its sibling [`kube`], the only place that may know a client library.
//!
//! Must not know: the planner, maps, devices.

pub mod dir;
pub mod events;
pub mod kube;
mod report;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use report::{Entry, LocatedProblem, Location, Outcome, Report};

use crate::model::Update;
use events::EventSender;

/// Which source, and what it needs.
#[derive(Clone, Debug)]
pub enum Config {
    /// A directory of manifests.
    Directory(dir::Config),
    /// The Kubernetes API.
    Kube(kube::Config),
}

/// A running source.
#[derive(Debug)]
pub struct Source {
    /// Batches of changes; the first lists are closed by [`Update::InitialListsDone`].
    pub updates: mpsc::Receiver<Vec<Update>>,
    /// Where to leave what the owners of objects should hear.
    pub events: EventSender,
}

/// Why a source cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(#[from] dir::DirError),
    /// There is no way to the API server.
    #[error(transparent)]
    Kube(#[from] kube::AccessError),
}

/// Starts a source; it ends with `cancel` or when nobody listens. Needs a tokio runtime.
///
/// # Errors
/// What it was given cannot be used.
pub fn spawn(config: Config, cancel: CancellationToken) -> Result<Source, SpawnError> {
    Ok(match config {
        Config::Directory(config) => Source {
            updates: dir::spawn(config, cancel)?.updates,
            // What is wrong with a manifest is logged; nobody else is asked to read it.
            events: EventSender::default(),
        },
        Config::Kube(config) => kube::spawn(config, cancel)?,
    })
}
