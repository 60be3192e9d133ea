//! The double as a test sees it: a server with an address, a life, and handles on everything it does.
//!
//! Must not know: what is answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hyper::body::Bytes;

use crate::netns::NsHandle;
use crate::poll;

use super::answer::Core;
use super::cache::PATIENCE;
use super::faults::Faults;
use super::front::{Front, Life};
use super::kubeconfig::Kubeconfig;
use super::request::Request;
use super::resource::Resource;
use super::store::Store;
use super::thread::Thread;
use super::tls::Authority;
use super::watches::{Command, Cut, Order};

/// How to start an [`ApiServer`].
#[derive(Debug, Default)]
pub struct Builder {
    ns: Option<NsHandle>,
    addresses: Vec<SocketAddr>,
    authority: Option<Authority>,
    store: Option<Store>,
    tokens: Option<Vec<String>>,
    patience: Option<Duration>,
}

impl Builder {
    /// Runs it inside a namespace, which must outlive it. Otherwise it runs where the test does.
    #[must_use]
    pub fn inside(mut self, ns: &NsHandle) -> Self {
        self.ns = Some(ns.clone());
        self
    }

    /// Listens here too; port 0 lets the kernel choose, once. Without any address: a port of 127.0.0.1.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Speaks TLS, with a certificate of this authority for the addresses it listens on.
    #[must_use]
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.authority = Some(authority.clone());
        self
    }

    /// Serves this store, which others may serve too. Without: one of its own.
    #[must_use]
    pub fn store(mut self, store: &Store) -> Self {
        self.store = Some(store.clone());
        self
    }

    /// Asks for one of these bearer tokens from the start (see [`ApiServer::accept_tokens`]).
    #[must_use]
    pub fn tokens<T: Into<String>>(mut self, tokens: impl IntoIterator<Item = T>) -> Self {
        self.tokens = Some(tokens.into_iter().map(Into::into).collect());
        self
    }

    /// How long a request waits for the watch cache to become fresh enough before it is refused (504). Without: 3 s, as
    /// kube-apiserver.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Starts it; returns when it listens.
    ///
    /// # Errors
    /// When an address cannot be bound, or no certificate be made.
    pub fn start(self) -> Result<ApiServer> {
        let mut addresses = self.addresses;
        if addresses.is_empty() {
            addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        }
        let tls = self
            .authority
            .as_ref()
            .map(|authority| authority.server_config(addresses.iter().map(SocketAddr::ip)))
            .transpose()?;
        let patience = self.patience.unwrap_or(PATIENCE);
        let core = Core::new(self.store.unwrap_or_default(), patience);
        let mut server = ApiServer {
            front: Front::new(core, tls),
            authority: self.authority,
            addresses: Vec::new(),
            thread: Thread::start(self.ns)?,
            life: Mutex::default(),
        };
        if let Some(tokens) = self.tokens {
            server.accept_tokens(tokens);
        }
        server.addresses = server.listen(&addresses)?;
        Ok(server)
    }
}

/// A running API server, or one that is away for a while. Gone on drop; its [`Store`] lives on in its clones.
///
/// It runs on a thread of its own, so all methods may be called from blocking and from asynchronous tests. Those that wait block
/// the caller: where that would hold up the client under test, the test needs a runtime of several threads.
#[derive(Debug)]
pub struct ApiServer {
    front: Front,
    authority: Option<Authority>,
    addresses: Vec<SocketAddr>,
    thread: Thread,
    /// `None` while it is away.
    life: Mutex<Option<Life>>,
}

impl ApiServer {
    /// How to start one.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One on a port of 127.0.0.1, without TLS, that lets everybody in.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    // Where it is.

    /// The first address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// All addresses it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The URL of its first address.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.front.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// The authority that signed its certificate.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// A kubeconfig for it, with its authority, without a user's credentials.
    #[must_use]
    pub fn kubeconfig(&self) -> Kubeconfig {
        let kubeconfig = Kubeconfig::new(&self.url());
        match &self.authority {
            Some(authority) => kubeconfig.ca(&authority.pem()),
            None => kubeconfig,
        }
    }

    /// What it serves.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.front.core.store
    }

    // Going away.

    /// Goes away: the listener is closed, all connections are reset. Without effect when it is away.
    pub fn stop(&self) {
        let Some(life) = self.life().take() else {
            return;
        };
        self.thread.run(life.end());
        self.heal();
    }

    /// Comes back on the same addresses. Without effect when it is there.
    ///
    /// # Errors
    /// When somebody else has taken an address meanwhile.
    pub fn restart(&self) -> Result<()> {
        if self.life().is_some() {
            return Ok(());
        }
        self.listen(&self.addresses).map(drop)
    }

    /// Falls silent: connections are accepted, old ones stay, nothing is read and nothing answered.
    pub fn black_hole(&self) {
        self.front.valve.shut();
    }

    /// Speaks again: what has arrived meanwhile is answered.
    pub fn heal(&self) {
        self.front.valve.open();
    }

    /// Resets all connections; new ones are accepted.
    pub fn reset_connections(&self) {
        for ending in self.front.connections().values() {
            ending.reset();
        }
    }

    // What goes wrong.

    /// Faults that requests meet.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.front.core.faults
    }

    /// Ends the open watches of a resource, or all; says how many.
    pub fn cut_watches(&self, resource: impl Into<Option<Resource>>, cut: Cut) -> usize {
        self.command(resource, Command::Cut(cut))
    }

    /// Has the open watches of a resource, or all, say this, whatever it is; an event is a line. Says to how many.
    pub fn say(&self, resource: impl Into<Option<Resource>>, bytes: impl Into<Bytes>) -> usize {
        self.command(resource, Command::Say(bytes.into()))
    }

    /// Sends a bookmark over the open watches of a resource, or all, that asked for bookmarks. They get one a minute besides.
    pub fn bookmark(&self, resource: impl Into<Option<Resource>>) -> usize {
        self.command(resource, Command::Bookmark)
    }

    /// The watch cache stands still: watches and lists at version 0 know nothing new, while the store goes on.
    pub fn freeze_cache(&self) {
        self.front.core.cache.freeze();
    }

    /// The watch cache catches up, and keeps up.
    pub fn thaw_cache(&self) {
        self.front.core.cache.thaw();
    }

    /// Whether streaming lists are served (the feature `WatchList`). They are, unless told otherwise.
    pub fn serve_streaming_lists(&self, whether: bool) {
        self.front.core.watch_list.store(whether, Ordering::Relaxed);
    }

    /// From now on a request needs one of these bearer tokens; watches that run go on.
    pub fn accept_tokens<T: Into<String>>(&self, tokens: impl IntoIterator<Item = T>) {
        let tokens = tokens.into_iter().map(Into::into).collect();
        *self
            .front
            .core
            .tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tokens);
    }

    // What was seen.

    /// All requests so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.front.core.journal.seen()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.front.core.journal.forget();
    }

    /// Open watches of a resource, or all.
    #[must_use]
    pub fn open_watches(&self, resource: impl Into<Option<Resource>>) -> usize {
        self.front.core.watches.count(resource.into())
    }

    /// Open connections.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.front.connections().len()
    }

    /// Connections accepted over its life.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.front.accepted()
    }

    /// Waits, blocking, until `enough` gives a value of the requests so far.
    ///
    /// # Errors
    /// When it has not after `limit`; the error lists the requests.
    pub fn wait_requests<T>(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Request]) -> Option<T>,
    ) -> Result<T> {
        poll::until(what, limit, || {
            let requests = self.requests();
            enough(&requests).ok_or_else(|| {
                let lines: Vec<_> = requests.iter().map(ToString::to_string).collect();
                format!("{} requests\n{}", lines.len(), lines.join("\n"))
            })
        })
    }

    /// Waits, blocking, until a resource has this many open watches.
    ///
    /// # Errors
    /// When it has another number after `limit`.
    pub fn wait_watches(
        &self,
        resource: impl Into<Option<Resource>>,
        count: usize,
        limit: Duration,
    ) -> Result<()> {
        let resource = resource.into();
        poll::until(
            &format!("{count} open watches of {resource:?}"),
            limit,
            || match self.open_watches(resource) {
                open if open == count => Ok(()),
                open => Err(format!("{open} are open")),
            },
        )
    }

    fn command(&self, resource: impl Into<Option<Resource>>, command: Command) -> usize {
        let core = &self.front.core;
        let version = core.cache.version();
        core.watches.send(resource.into(), &Order { command, version })
    }

    fn listen(&self, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>> {
        let (bound, life) = self.thread.run(self.front.clone().listen(addresses.to_vec()))?;
        *self.life() = Some(life);
        Ok(bound)
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
