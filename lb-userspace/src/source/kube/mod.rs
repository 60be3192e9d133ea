//! The Kubernetes API as source.
//!
//! Owns: watching Services, EndpointSlices and this node's Node (S1, S2, S10), over connections that outlive any one API server,
//! and telling their owners what is refused. The only folder that imports `kube`.
//!
//! Must not know: the planner, maps, devices.

mod access;
mod decode;
mod events;
mod failure;
mod gate;
mod items;
mod known;
mod lines;
mod list;
mod look;
mod pace;
mod position;
mod resource;
#[cfg(test)]
mod tests;
mod trouble;
mod watch;
mod wire;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use access::{Access, AccessError, ServerId, Servers};
pub use look::{Look, LookError, look};

use self::resource::Resource;
use self::watch::Watch;
use crate::source::Source;
use crate::source::events::EventSender;

/// The watches begin within this time.
const START: Duration = Duration::from_secs(1);
/// Deliveries of the watches that may wait to be joined.
const DELIVERIES: usize = 16;
/// Batches that may wait for the agent before the source waits too.
const BATCHES: usize = 16;

/// What to watch, and how to get there.
#[derive(Clone, Debug)]
pub struct Config {
    /// The way to the API servers.
    pub access: Access,
    /// This node's name in Node objects.
    pub node_name: String,
}

/// Begins to watch; ends with `cancel` or when nobody listens. An API server that is not there is waited for. Needs a tokio
/// runtime.
///
/// # Errors
/// The configuration or the credentials cannot be used.
pub fn spawn(config: Config, cancel: CancellationToken) -> Result<Source, AccessError> {
    let servers = Servers::connect(&config.access)?;
    // Nodes that come up together should not ask together.
    let pause = START.mul_f64(rand::random());
    Ok(watch(servers, config.node_name, pause, cancel))
}

/// [`spawn`] over servers that are given, after a pause.
#[must_use]
pub fn watch(servers: Servers, node_name: String, pause: Duration, cancel: CancellationToken) -> Source {
    // The source's own: its end is not the agent's.
    let cancel = cancel.child_token();
    let (events, queue) = EventSender::channel();
    let publish = events::publish(queue, servers.clone(), node_name.clone());
    tokio::spawn(cancel.clone().run_until_cancelled_owned(publish));
    let (deliveries, delivered) = mpsc::channel(DELIVERIES);
    let (batches, updates) = mpsc::channel(BATCHES);
    let resources = [
        Resource::services(),
        Resource::endpoint_slices(),
        Resource::node(&node_name),
    ];
    for resource in resources {
        let watch = Watch::new(resource, servers.clone(), events.clone(), deliveries.clone());
        // A watch that is no more, and be it by a bug, is missed: what it would have told must not go stale unnoticed.
        let end_of_all = cancel.clone().drop_guard();
        let work = async move {
            let _end_of_all = end_of_all;
            sleep(pause).await;
            watch.run().await;
        };
        tokio::spawn(cancel.clone().run_until_cancelled_owned(work));
    }
    let join = gate::join(delivered, batches, node_name);
    tokio::spawn(cancel.run_until_cancelled_owned(join));
    Source { updates, events }
}
