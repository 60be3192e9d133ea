//! Objects of a directory on their way into the API-server double, as `kubectl apply --prune` would put them into a cluster.
//!
//! Must not know: who watches.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use lb_userspace::source::dir::Stored;
use serde::Serialize;
use serde_json::Value;

use crate::apiserver::{Resource, Store};

/// Makes a store hold these objects and no others. Endpoints come before the Services that use them, and go after them.
///
/// # Errors
/// When an object is none that an API server takes.
pub fn publish(stored: &Stored, store: &Store) -> Result<()> {
    let wanted = [
        (Resource::Nodes, values(&stored.nodes)?),
        (Resource::EndpointSlices, values(&stored.endpoint_slices)?),
        (Resource::Services, values(&stored.services)?),
    ];
    for object in wanted.iter().flat_map(|(_, objects)| objects) {
        store.apply(object.clone());
    }
    for (resource, objects) in wanted.iter().rev() {
        let kept: BTreeSet<_> = objects.iter().map(place).collect();
        for object in store.list(*resource) {
            let place = place(&object);
            if !kept.contains(&place) {
                store.delete(*resource, place.0, place.1.context("an object without a name")?);
            }
        }
    }
    Ok(())
}

fn values(objects: &[impl Serialize]) -> Result<Vec<Value>> {
    let values = objects.iter().map(serde_json::to_value);
    Ok(values.collect::<Result<_, _>>()?)
}

/// Namespace and name.
fn place(object: &Value) -> (Option<&str>, Option<&str>) {
    let metadata = &object["metadata"];
    (metadata["namespace"].as_str(), metadata["name"].as_str())
}
