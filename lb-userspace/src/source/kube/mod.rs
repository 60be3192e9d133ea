//! The Kubernetes API as source.
//!
//! Owns: watching Services, EndpointSlices and this node's Node (S1, S2, S10), over connections that outlive any one API server,
//! and telling their owners what is refused. The only folder that imports `kube`.
//!
//! Must not know: the planner, maps, devices.

mod access;
mod events;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use access::{Access, AccessError, ServerId, Servers};

use crate::model::Update;
use crate::source::events::EventSender;

/// What to watch, and how to get there.
#[derive(Clone, Debug)]
pub struct Config {
    /// The way to the API servers.
    pub access: Access,
    /// This node's name in Node objects.
    pub node_name: String,
}

/// A running source.
#[derive(Debug)]
pub struct Source {
    /// Batches of changes; the first lists are closed by [`Update::InitialListsDone`].
    pub updates: mpsc::Receiver<Vec<Update>>,
    /// Where the agent leaves events about objects of this source.
    pub events: EventSender,
}

/// Begins to watch; ends with `cancel` or when nobody listens. An API server that is not there is waited for. Needs a tokio
/// runtime.
///
/// # Errors
/// The configuration or the credentials cannot be used.
pub fn spawn(config: Config, cancel: CancellationToken) -> Result<Source, AccessError> {
    let servers = Servers::connect(&config.access)?;
    let (events, queue) = EventSender::channel();
    let publish = events::publish(queue, servers.clone(), config.node_name.clone());
    tokio::spawn(cancel.clone().run_until_cancelled_owned(publish));
    let _ = (servers, cancel, events);
    todo!("the watches")
}
