//! The objects in force as the agent sees them, and the difference between two such states.
//!
//! Owns: what an accepted manifest object amounts to, `Endpoints` joined with their Services, the order of
//! updates. Must not know: files, refusals.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;

use super::mirror;
use crate::model::parse::{self, Parsed};
use crate::model::{EndpointSlice, Node, ObjectRef, Service, ServiceKey, SliceKey, Update};

/// An accepted object and the file it stands in.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) file: PathBuf,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Service {
        /// With its defaults and allocations.
        object: Box<v1::Service>,
        /// Absent when the proxy has nothing to do with it.
        service: Option<Box<Service>>,
    },
    EndpointSlice {
        /// With its defaults.
        object: Box<discovery::EndpointSlice>,
        /// Absent when the proxy has nothing to do with it.
        slice: Option<EndpointSlice>,
    },
    /// Whether it counts depends on its Service.
    Endpoints(Box<v1::Endpoints>),
    Node {
        object: Box<v1::Node>,
        node: Node,
    },
}

/// What was or is to be delivered.
#[derive(Debug, Default)]
pub(super) struct World {
    services: BTreeMap<ServiceKey, Service>,
    slices: BTreeMap<SliceKey, EndpointSlice>,
    nodes: BTreeMap<String, Node>,
}

pub(super) fn service_ref(key: &ServiceKey) -> ObjectRef {
    ObjectRef::new("Service", key.namespace.clone(), key.name.clone())
}

/// The Service an `Endpoints` object is mirrored for, or why it is not.
pub(super) fn mirrored_for(
    object: &v1::Endpoints,
    objects: &BTreeMap<ObjectRef, InForce>,
) -> Result<ServiceKey, String> {
    if let Some(reason) = mirror::left_alone(object) {
        return Err(reason);
    }
    let metadata = &object.metadata;
    let key = ServiceKey::new(
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    );
    match objects.get(&service_ref(&key)).map(|in_force| &in_force.value) {
        Some(Value::Service { object, .. }) if has_selector(object) => Err(format!(
            "Service {key} has a selector, so its endpoints come from EndpointSlices"
        )),
        Some(Value::Service { service: None, .. }) => Err(format!("Service {key} is not served")),
        Some(_) => Ok(key),
        None => Err(format!("there is no Service {key}")),
    }
}

/// The slices an `Endpoints` object stands for, or why it stands for none.
pub(super) fn mirrored(
    object: &v1::Endpoints,
    objects: &BTreeMap<ObjectRef, InForce>,
) -> Result<(ServiceKey, Vec<EndpointSlice>), String> {
    let key = mirrored_for(object, objects)?;
    let slices = mirror::slices(object)
        .into_iter()
        .filter_map(|slice| match parse::endpoint_slice(&slice) {
            Ok(Parsed::Accepted { value, .. }) => Some(value),
            // The object was validated, and the label is ours.
            Ok(Parsed::Skipped(_)) | Err(_) => None,
        });
    Ok((key, slices.collect()))
}

fn has_selector(service: &v1::Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|labels| !labels.is_empty())
}

impl World {
    pub(super) fn of(objects: &BTreeMap<ObjectRef, InForce>) -> Self {
        let mut world = Self::default();
        for in_force in objects.values() {
            match &in_force.value {
                Value::Service { service, .. } => {
                    world.services.extend(
                        service
                            .iter()
                            .map(|service| (service.key.clone(), (**service).clone())),
                    );
                }
                Value::EndpointSlice { slice, .. } => {
                    world
                        .slices
                        .extend(slice.iter().map(|slice| (slice.key.clone(), slice.clone())));
                }
                Value::Endpoints(object) => {
                    let slices = mirrored(object, objects)
                        .map(|(_, slices)| slices)
                        .unwrap_or_default();
                    world
                        .slices
                        .extend(slices.into_iter().map(|slice| (slice.key.clone(), slice)));
                }
                Value::Node { node, .. } => {
                    world.nodes.insert(node.name.clone(), node.clone());
                }
            }
        }
        world
    }

    /// What turns this world into `next`: endpoints before the Services that use them, and the other way round
    /// on removal, so that no batch ever leaves a Service without the endpoints it had and will have.
    pub(super) fn difference(&self, next: &Self) -> Vec<Update> {
        let mut updates = Vec::new();
        updates.extend(applied(&self.nodes, &next.nodes).map(Update::NodeApplied));
        updates.extend(applied(&self.slices, &next.slices).map(Update::SliceApplied));
        updates.extend(applied(&self.services, &next.services).map(Update::ServiceApplied));
        updates.extend(deleted(&self.services, &next.services).map(Update::ServiceDeleted));
        updates.extend(deleted(&self.slices, &next.slices).map(Update::SliceDeleted));
        updates.extend(deleted(&self.nodes, &next.nodes).map(Update::NodeDeleted));
        updates
    }
}

fn applied<K: Ord, V: Clone + PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> impl Iterator<Item = V> {
    new.iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .map(|(_, value)| value.clone())
}

fn deleted<K: Ord + Clone, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = K> {
    old.keys().filter(|key| !new.contains_key(key)).cloned()
}
