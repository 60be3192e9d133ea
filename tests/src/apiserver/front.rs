//! Accepting connections and speaking HTTP over them, with or without TLS, until the server goes away.
//!
//! Must not know: what is answered.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Core;
use super::wire::{Ending, Valve, Wire};

/// Pending connections a listener holds.
const BACKLOG: u32 = 1024;
/// How long closing connections may take.
const CLOSING: Duration = Duration::from_secs(2);

/// What accepts and serves connections. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Front {
    pub core: Arc<Core>,
    pub valve: Arc<Valve>,
    tls: Option<Arc<ServerConfig>>,
    connections: Arc<Mutex<BTreeMap<u64, Ending>>>,
    accepted: Arc<AtomicU64>,
}

/// The time between a start and a stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Life {
    over: CancellationToken,
    tasks: TaskTracker,
}

impl Life {
    /// Closes the listeners and resets all connections; returns when they are closed.
    pub(super) async fn end(self) {
        self.over.cancel();
        self.tasks.close();
        // Each of them ends as soon as it is polled; one that hangs has no say.
        let _ = timeout(CLOSING, self.tasks.wait()).await;
    }
}

impl Front {
    pub(super) fn new(core: Core, tls: Option<Arc<ServerConfig>>) -> Self {
        Self {
            core: Arc::new(core),
            valve: Arc::default(),
            tls,
            connections: Arc::default(),
            accepted: Arc::default(),
        }
    }

    /// Whether it speaks TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connections accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The open connections, by number.
    pub(super) fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Ending>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens on all addresses; returns the addresses bound, and the life that has begun.
    pub(super) async fn listen(self, addresses: Vec<SocketAddr>) -> Result<(Vec<SocketAddr>, Life)> {
        // All or none: nobody is served before all are bound.
        let listeners = addresses
            .into_iter()
            .map(|address| bind(address).with_context(|| format!("listening on {address}")))
            .collect::<Result<Vec<_>>>()?;
        let bound = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let life = Life::default();
        for listener in listeners {
            life.tasks.spawn(self.clone().accept(listener, life.clone()));
        }
        Ok((bound, life))
    }

    async fn accept(self, listener: TcpListener, life: Life) {
        // A connection that is reset before it is accepted is none.
        while let Some(accepted) = life.over.run_until_cancelled(listener.accept()).await {
            if let Ok((stream, _)) = accepted {
                life.tasks.spawn(self.clone().converse(stream, life.over.clone()));
            }
        }
    }

    async fn converse(self, stream: TcpStream, life_over: CancellationToken) {
        let ending = Ending::default();
        let id = self.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        self.connections().insert(id, ending.clone());
        // Without this small chunks wait for acknowledgements; a socket that refuses is closed already.
        let _ = stream.set_nodelay(true);
        let wire = Wire::new(stream, Arc::clone(&self.valve), ending.clone());
        let talk = async {
            match &self.tls {
                None => self.serve(id, &ending, wire).await,
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(Arc::clone(tls)).accept(wire).await {
                        self.serve(id, &ending, stream).await;
                    }
                }
            }
        };
        let over = async {
            tokio::select! {
                () = ending.over() => {}
                // Before the connection is dropped, which is when `over` ends.
                () = life_over.cancelled() => ending.reset(),
            }
        };
        tokio::select! {
            () = talk => {}
            () = over => {}
        }
        self.connections().remove(&id);
    }

    async fn serve(&self, id: u64, ending: &Ending, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let answer = service_fn(|request| self.core.answer(id, ending, request));
        // An error is a caller that went away, or a fault; the caller's side tells what happened.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}
