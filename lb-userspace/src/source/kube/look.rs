//! One look at the cluster, without following it and without leaving a trace in it: for `xvip check`.
//!
//! Owns: asking each server in turn, until one has answered everything. What an object means and what is said about it is decided
//! where the watches decide it. Must not know: what becomes of the objects.

use std::time::Duration;

use kube::Client;
use tokio::time::timeout;

use super::Config;
use super::access::{AccessError, Servers};
use super::failure::Failure;
use super::known::Known;
use super::list::list;
use super::position::Ask;
use super::resource::Resource;
use crate::model::Update;
use crate::source::events::ObjectEvent;

/// How long one server may take for everything.
const LIMIT: Duration = Duration::from_secs(60);

/// What is there.
#[derive(Debug, Default)]
pub struct Look {
    /// Services, EndpointSlices and this node's Node.
    pub updates: Vec<Update>,
    /// What is wrong with some of them.
    pub remarks: Vec<ObjectEvent>,
}

/// Why nothing could be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// There is no way to the API server.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No server answered, or one refused.
    #[error("{}", .0.join("\n"))]
    NoAnswer(Vec<String>),
}

/// Lists everything once; `progress` is told how many objects have been read. Needs a tokio runtime.
///
/// # Errors
/// The credentials cannot be used, or no server answers.
pub async fn look(config: &Config, mut progress: impl FnMut(usize)) -> Result<Look, LookError> {
    let servers = Servers::connect(&config.access)?;
    let mut reasons = Vec::new();
    loop {
        let (server, client) = servers.current();
        let answer = timeout(LIMIT, everything(&client, &config.node_name, &mut progress)).await;
        let failure = match answer {
            Ok(Ok(look)) => return Ok(look),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Connection(format!("not all was answered within {} s", LIMIT.as_secs())),
        };
        reasons.push(format!("{}: {failure}", servers.name(server)));
        if !failure.is_the_servers() || servers.failed(server) {
            return Err(LookError::NoAnswer(reasons));
        }
    }
}

async fn everything(
    client: &Client,
    node_name: &str,
    progress: &mut impl FnMut(usize),
) -> Result<Look, Failure> {
    let mut look = Look::default();
    let mut read = 0;
    for resource in [
        Resource::services(),
        Resource::endpoint_slices(),
        Resource::node(node_name),
    ] {
        let mut known = Known::new(resource);
        let each = || {
            read += 1;
            progress(read);
        };
        let (listing, _) = list(client, &known, &Ask::Quorum { paged: true }, each).await?;
        let consequences = known.listed(listing);
        look.updates.extend(consequences.updates);
        let remarks = consequences.remarks.into_iter();
        look.remarks.extend(remarks.map(|remark| remark.event));
    }
    Ok(look)
}
