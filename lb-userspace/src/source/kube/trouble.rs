//! What the log says about an API server that does not do its work.
//!
//! Owns: saying each kind of trouble once when it begins, with what to do about it, and once that it is over. Must not know: what
//! the agent does about it.

use std::collections::BTreeSet;

use super::failure::{Failure, Trouble};
use super::position::Ask;
use super::resource::Resource;

/// The troubles of one watch.
#[derive(Debug)]
pub(super) struct Troubles {
    plural: String,
    group: String,
    said: BTreeSet<Trouble>,
}

impl Troubles {
    pub(super) fn new(resource: &Resource) -> Self {
        Self {
            plural: resource.plural.clone(),
            group: resource.group.clone(),
            said: BTreeSet::new(),
        }
    }

    /// A request failed.
    pub(super) fn begin(&mut self, trouble: Trouble, ask: &Ask, server: &str, failure: &Failure) {
        let resource = &self.plural;
        if self.said.insert(trouble) {
            tracing::warn!(
                resource,
                server,
                "{ask} failed: {failure}. {}",
                self.advice(trouble)
            );
        } else {
            tracing::debug!(resource, server, "{ask} failed: {failure}");
        }
    }

    /// A request failed as some do in the normal course of things; watches are cut all the time where something on the way has
    /// little patience.
    pub(super) fn note(&self, ask: &Ask, failure: &Failure, next: &Ask) {
        let resource = &self.plural;
        if self.said.is_empty() && !matches!(failure, Failure::Cut(_)) {
            tracing::info!(resource, "{ask}: {failure}; next: {next}");
        } else {
            tracing::debug!(resource, "{ask}: {failure}; next: {next}");
        }
    }

    /// Everything is as it should be.
    pub(super) fn over(&mut self) {
        if !self.said.is_empty() {
            self.said.clear();
            tracing::info!(resource = self.plural, "the API server answers again");
        }
    }

    fn advice(&self, trouble: Trouble) -> String {
        match trouble {
            Trouble::Unreachable => "Is it running, and reachable from this node?".to_owned(),
            Trouble::Unauthorized => {
                "Our credentials are not accepted: are they of this cluster, and has their token not expired?"
                    .to_owned()
            }
            Trouble::Forbidden => format!(
                "A ClusterRole bound to us must allow the verbs list and watch for the resource {:?} of the API group {:?}",
                self.plural, self.group
            ),
            Trouble::Overloaded => "It asks its clients to wait".to_owned(),
            Trouble::Failing => "Its own log says more".to_owned(),
            Trouble::Confused => "Is it an API server that answers at this address?".to_owned(),
        }
    }
}
