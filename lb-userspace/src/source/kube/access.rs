//! The way to the API servers: addresses, certificates, credentials; and which of several servers is in use.
//!
//! Owns: clients. Must not know: what is asked for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kube::Client;

/// Where the API servers are, and who we are to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig; without it the service account of the pod is used.
    pub kubeconfig: Option<PathBuf>,
    /// Addresses of API servers, tried in turn. Empty: the kubeconfig's, or the one the environment names.
    pub servers: Vec<http::Uri>,
}

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {}

/// The clients of all API servers; clones share which one is in use.
#[derive(Clone)]
pub struct Servers {
    clients: Arc<[Client]>,
    current: Arc<Mutex<usize>>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers")
            .field("clients", &self.clients.len())
            .finish_non_exhaustive()
    }
}

/// Which server a client was of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerId(usize);

impl Servers {
    /// Reads the credentials; connects to nobody yet.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn connect(access: &Access) -> Result<Self, AccessError> {
        let _ = access;
        todo!("access")
    }

    /// These clients, the first in use.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn from_clients(clients: Vec<Client>) -> Self {
        assert!(!clients.is_empty(), "an API server is needed");
        Self {
            clients: clients.into(),
            current: Arc::default(),
        }
    }

    /// The server in use.
    #[must_use]
    pub fn current(&self) -> (ServerId, Client) {
        let current = *self
            .current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        (ServerId(current), self.clients[current].clone())
    }

    /// A server did not do its work: the next one is taken, unless somebody else saw it first. Says whether all have been
    /// tried once more, so that it is time to wait.
    pub fn failed(&self, server: ServerId) -> bool {
        let mut current = self
            .current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if *current == server.0 {
            *current = (*current + 1) % self.clients.len();
        }
        *current == 0
    }
}
