//! Which of several API servers is in use.
//!
//! Owns: the order they are tried in. Each agent begins with a server of its own choice, by chance, so that a thousand nodes are
//! spread over all of them, and stays with one that works. Must not know: what makes a server fail.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use tokio::sync::watch;

use super::credentials::ServiceAccount;
use super::{Access, AccessError, client, credentials};

/// The clients of all API servers; clones share which one is in use.
#[derive(Clone)]
pub struct Servers {
    servers: Arc<[Server]>,
    state: Arc<Mutex<State>>,
    /// How often a server answered after one had not.
    recoveries: Arc<watch::Sender<u64>>,
}

/// Tells when a server answers again; what came before it was made does not count.
#[derive(Debug)]
pub(in crate::source::kube) struct Recovery(watch::Receiver<u64>);

impl Recovery {
    /// Waits until a server answered after one had not.
    pub(in crate::source::kube) async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // No servers, no recovery.
            std::future::pending().await
        }
    }
}

/// Which turn of which server a client is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerId {
    turn: u64,
    index: usize,
}

/// Makes a client anew, with credentials as they are now.
type Make = Box<dyn Fn() -> Result<Client, AccessError> + Send + Sync>;

struct Server {
    name: String,
    make: Make,
}

struct State {
    /// Goes up with every server taken, also with the same one again.
    turn: u64,
    /// The server in use.
    index: usize,
    /// The last good client of each server.
    clients: Vec<Client>,
    /// Servers that failed in a row in this round; all of them end it.
    failed: usize,
    /// A server failed, and none has answered since.
    away: bool,
    /// The server that worked last.
    working: Option<usize>,
}

impl Servers {
    /// Reads the credentials; connects to nobody yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// They cannot be read, or cannot be used.
    pub fn connect(access: &Access) -> Result<Self, AccessError> {
        let here = ServiceAccount::here();
        if access.kubeconfig.is_none() && access.servers.is_empty() && here.is_cluster_ip() {
            tracing::warn!(
                "the API server is reached by the address of a Service (KUBERNETES_SERVICE_HOST={}), which works only while \
                 somebody serves it on this node: give --api-server https://HOST:6443,… (clientConnection.apiServers)",
                here.host.as_deref().unwrap_or_default()
            );
        }
        let first = rand::random_range(0..access.servers.len().max(1));
        Self::connect_from(first, access, &here)
    }

    /// [`Servers::connect`] with chance and environment as arguments.
    pub(super) fn connect_from(
        first: usize,
        access: &Access,
        here: &ServiceAccount,
    ) -> Result<Self, AccessError> {
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for server in access.each_server() {
            let target = credentials::read(access, server, here)?;
            clients.push(client::new(&target)?);
            if target.config.accept_invalid_certs {
                tracing::warn!(
                    "{}: certificates are not verified (insecure-skip-tls-verify): anybody on the way can be the API server",
                    target.config.cluster_url
                );
            }
            let (access, server, here) = (access.clone(), server.cloned(), here.clone());
            servers.push(Server {
                name: target.config.cluster_url.to_string(),
                make: Box::new(move || client::new(&credentials::read(&access, server.as_ref(), &here)?)),
            });
        }
        Ok(Self::new(servers, first, clients))
    }

    /// These clients, the first in use.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn from_clients(clients: Vec<Client>) -> Self {
        assert!(!clients.is_empty(), "an API server is needed");
        let servers = clients.iter().cloned().enumerate().map(|(index, client)| Server {
            name: format!("server {index}"),
            make: Box::new(move || Ok(client.clone())),
        });
        Self::new(servers.collect(), 0, clients)
    }

    fn new(servers: Vec<Server>, index: usize, clients: Vec<Client>) -> Self {
        Self {
            servers: servers.into(),
            state: Arc::new(Mutex::new(State {
                turn: 0,
                index,
                clients,
                failed: 0,
                away: false,
                working: None,
            })),
            recoveries: Arc::new(watch::Sender::new(0)),
        }
    }

    /// The server in use.
    #[must_use]
    pub fn current(&self) -> (ServerId, Client) {
        let state = self.state();
        let State { turn, index, .. } = *state;
        (ServerId { turn, index }, state.clients[index].clone())
    }

    /// The address of a server, for messages.
    #[must_use]
    pub fn name(&self, server: ServerId) -> &str {
        &self.servers[server.index].name
    }

    /// A server did not do its work: the next one is taken, with credentials read anew, unless somebody else saw it first. With
    /// one server this is the same one, over a new connection. Says whether every server has failed since one worked, or since
    /// the last time this was so: then it is time to wait.
    pub fn failed(&self, server: ServerId) -> bool {
        let mut state = self.state();
        state.away = true;
        if state.turn == server.turn {
            self.next(&mut state);
        }
        state.failed == self.servers.len()
    }

    /// A server did its work: if it fails later, all others are tried before it is time to wait.
    pub fn worked(&self, server: ServerId) {
        let mut state = self.state();
        if state.turn != server.turn {
            return;
        }
        state.failed = 0;
        if state.working.replace(server.index) != Some(server.index) {
            tracing::info!(server = self.servers[server.index].name, "the API server in use");
        }
    }

    /// A server answered a request, which does not say that it does its work.
    pub(in crate::source::kube) fn answered(&self) {
        if std::mem::take(&mut self.state().away) {
            self.recoveries.send_modify(|recoveries| *recoveries += 1);
        }
    }

    /// Tells, from now on, when a server answers again: nobody has to wait out his back-off then.
    #[must_use]
    pub(in crate::source::kube) fn recovery(&self) -> Recovery {
        Recovery(self.recoveries.subscribe())
    }

    fn next(&self, state: &mut State) {
        let before = state.index;
        state.turn += 1;
        state.index = (before + 1) % self.servers.len();
        state.failed = state.failed % self.servers.len() + 1;
        let server = &self.servers[state.index];
        if state.index != before {
            // All of them while none answers, so not for everybody to read.
            tracing::debug!(
                failed = self.servers[before].name,
                next = server.name,
                "another API server"
            );
        }
        match (server.make)() {
            Ok(client) => state.clients[state.index] = client,
            Err(error) => tracing::warn!("{error}; going on with what was read before"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.servers.iter().map(|server| server.name.as_str()).collect();
        f.debug_struct("Servers")
            .field("servers", &names)
            .finish_non_exhaustive()
    }
}
