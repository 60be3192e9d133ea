//! A list, in one piece or in pages.
//!
//! Owns: asking for one page after the other and taking each apart while it arrives. Must not know: what follows from the list.

use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use tokio::time::{Instant, timeout_at};

use super::decode::{self, ListMetadata};
use super::failure::Failure;
use super::items::Items;
use super::known::{Known, Listing};
use super::lines::Pieces;
use super::position::Ask;
use super::wire;

/// A list that says nothing for so long will not be completed.
pub(super) const SILENCE: Duration = Duration::from_secs(20);
/// How long a page may take.
const LONGEST: Duration = Duration::from_secs(300);

/// Everything, and the version it has; `each` is called for every object.
pub(super) async fn list(
    client: &Client,
    known: &Known,
    ask: &Ask,
    mut each: impl FnMut(),
) -> Result<(Listing, String), Failure> {
    let mut listing = Listing::default();
    let mut token = None;
    loop {
        let request = wire::request(known.resource(), ask, 0, token.as_deref());
        let pieces = wire::send(client, request).await?;
        let object = |item: &[u8]| {
            known.collect(&mut listing, decode::identity(item), |resource| {
                resource.read_item(item)
            });
            each();
        };
        let metadata = page(pieces, object).await?;
        if metadata.continue_token.is_empty() {
            return Ok((listing, metadata.resource_version));
        }
        token = Some(metadata.continue_token);
    }
}

async fn page(mut pieces: Pieces, mut object: impl FnMut(&[u8])) -> Result<ListMetadata, Failure> {
    let end = Instant::now() + LONGEST;
    let mut items = Items::default();
    loop {
        let patience = end.min(Instant::now() + SILENCE);
        let piece = match timeout_at(patience, pieces.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(failure))) => return Err(Failure::Truncated(failure.to_string())),
            Err(_) => return Err(Failure::Truncated("nothing more came".to_owned())),
        };
        items
            .feed(&piece, &mut object)
            .map_err(|error| Failure::Garbage(error.to_string()))?;
    }
    let skeleton = items.into_skeleton();
    decode::list_metadata(&skeleton).map_err(|error| match error.is_eof() {
        true => Failure::Truncated("it ended before its end".to_owned()),
        false => Failure::garbage(&error, &skeleton),
    })
}
