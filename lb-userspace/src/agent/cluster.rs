//! The cluster as the source has told it so far.
//!
//! Owns: which Services an update touches, so that a change costs what it changes. Must not know: plans, maps, time.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EndpointSlice, Node, Service, ServiceKey, SliceKey, Update};

/// Services, their slices, Nodes.
#[derive(Debug, Default)]
pub struct Cluster {
    services: BTreeMap<ServiceKey, Service>,
    slices: BTreeMap<SliceKey, EndpointSlice>,
    slices_of: BTreeMap<ServiceKey, BTreeSet<SliceKey>>,
    nodes: BTreeMap<String, Node>,
    complete: bool,
}

/// What a batch of updates concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services to plan anew.
    pub services: BTreeSet<ServiceKey>,
    /// Nodes that came, changed or went.
    pub nodes: BTreeSet<String>,
}

impl Cluster {
    /// Takes in an update and notes what it concerns. What is as it was concerns nobody: a source may tell more than the model keeps.
    pub fn apply(&mut self, update: Update, touched: &mut Touched) {
        match update {
            Update::ServiceApplied(service) if self.services.get(&service.key) == Some(&service) => {}
            Update::SliceApplied(slice) if self.slices.get(&slice.key) == Some(&slice) => {}
            Update::NodeApplied(node) if self.nodes.get(&node.name) == Some(&node) => {}
            Update::ServiceApplied(service) => {
                touched.services.insert(service.key.clone());
                self.services.insert(service.key.clone(), service);
            }
            Update::ServiceDeleted(key) => {
                self.services.remove(&key);
                touched.services.insert(key);
            }
            Update::SliceApplied(slice) => {
                self.forget_slice(&slice.key, touched);
                touched.services.insert(slice.service.clone());
                self.slices_of
                    .entry(slice.service.clone())
                    .or_default()
                    .insert(slice.key.clone());
                self.slices.insert(slice.key.clone(), slice);
            }
            Update::SliceDeleted(key) => self.forget_slice(&key, touched),
            Update::NodeApplied(node) => {
                touched.nodes.insert(node.name.clone());
                self.nodes.insert(node.name.clone(), node);
            }
            Update::NodeDeleted(name) => {
                self.nodes.remove(&name);
                touched.nodes.insert(name);
            }
            Update::InitialListsDone => self.complete = true,
        }
    }

    /// Takes a slice from the Service it was of; both it and its next one are touched.
    fn forget_slice(&mut self, key: &SliceKey, touched: &mut Touched) {
        let Some(slice) = self.slices.remove(key) else {
            return;
        };
        if let Some(slices) = self.slices_of.get_mut(&slice.service) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices_of.remove(&slice.service);
            }
        }
        touched.services.insert(slice.service);
    }

    /// Whether everything that existed at the start is in (S11).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// A Service, unless it is gone.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// Every Service, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The slices of a Service, by name.
    #[must_use]
    pub fn slices_of(&self, key: &ServiceKey) -> Vec<&EndpointSlice> {
        let keys = self.slices_of.get(key).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key)).collect()
    }

    /// A Node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::IpFamily;
    use crate::plan::fixtures;

    fn slice(name: &str, service: &str) -> Update {
        Update::SliceApplied(EndpointSlice {
            key: SliceKey::new("shop", name),
            service: ServiceKey::new("shop", service),
            family: IpFamily::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
            triggered: None,
        })
    }

    fn touched(cluster: &mut Cluster, update: Update) -> Vec<String> {
        let mut touched = Touched::default();
        cluster.apply(update, &mut touched);
        touched.services.into_iter().map(|key| key.name).collect()
    }

    fn slices_of(cluster: &Cluster, service: &str) -> Vec<String> {
        let slices = cluster.slices_of(&ServiceKey::new("shop", service));
        slices.into_iter().map(|slice| slice.key.name.clone()).collect()
    }

    #[test]
    fn a_slice_touches_its_service_alone() {
        let mut cluster = Cluster::default();
        assert_eq!(touched(&mut cluster, slice("web-1", "web")), ["web"]);
        assert_eq!(touched(&mut cluster, slice("api-1", "api")), ["api"]);
        assert_eq!(slices_of(&cluster, "web"), ["web-1"]);
    }

    #[test]
    fn what_is_as_it_was_touches_nothing() {
        let service = |excluded| {
            Update::ServiceApplied(Service {
                excluded,
                ..fixtures::service()
            })
        };
        let node = |zone: &str| {
            Update::NodeApplied(Node {
                name: "n1".to_owned(),
                zone: Some(zone.to_owned()),
                internal_ips: Vec::new(),
                labels: BTreeMap::new(),
                leaving: false,
            })
        };
        for [first, other] in [
            [service(false), service(true)],
            [slice("one", "web"), slice("one", "api")],
            [node("a"), node("b")],
        ] {
            let mut cluster = Cluster::default();
            let mut touches = |update: &Update| {
                let mut touched = Touched::default();
                cluster.apply(update.clone(), &mut touched);
                touched != Touched::default()
            };
            let seen = [&first, &first, &other, &other, &first].map(&mut touches);
            assert_eq!(seen, [true, false, true, false, true], "{first:?}");
        }
    }

    #[test]
    fn a_slice_that_changes_hands_touches_both_services() {
        let mut cluster = Cluster::default();
        touched(&mut cluster, slice("one", "web"));
        assert_eq!(touched(&mut cluster, slice("one", "api")), ["api", "web"]);
        assert!(slices_of(&cluster, "web").is_empty());
        assert_eq!(slices_of(&cluster, "api"), ["one"]);
    }

    #[test]
    fn a_slice_that_goes_touches_the_service_it_was_of() {
        let mut cluster = Cluster::default();
        touched(&mut cluster, slice("one", "web"));
        let gone = Update::SliceDeleted(SliceKey::new("shop", "one"));
        assert_eq!(touched(&mut cluster, gone.clone()), ["web"]);
        assert!(
            touched(&mut cluster, gone).is_empty(),
            "what is not there cannot go"
        );
    }

    /// S11.
    #[test]
    fn the_datapath_waits_for_the_end_of_the_lists() {
        let mut cluster = Cluster::default();
        assert!(!cluster.is_complete());
        touched(&mut cluster, Update::InitialListsDone);
        assert!(cluster.is_complete());
    }
}
