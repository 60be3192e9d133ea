//! Little servers that say who they are and whom they see.
//!
//! To each line (TCP) or datagram (UDP) they answer one line of JSON, an [`Answer`], for as long as the caller likes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::netns::NsHandle;

/// Pending connections a listener holds: more than any test opens at once.
const BACKLOG: u32 = 4096;
/// How long closing sockets may take.
const CLOSING: Duration = Duration::from_secs(2);

/// A transport protocol the lab speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The server's name.
    pub pod: String,
    /// The caller's address as the server sees it.
    pub client: SocketAddr,
    /// The address the call arrived at.
    pub local: SocketAddr,
    /// What the caller sent.
    pub echo: String,
}

/// What a server has done.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    answered: AtomicU64,
}

/// A running server. Its sockets are closed on drop.
#[derive(Debug)]
pub struct Server {
    ns: NsHandle,
    name: String,
    shared: Arc<Counters>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Listens on every given port of every given address, and returns when all are bound.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start(ns: &NsHandle, name: &str, addresses: &[IpAddr], ports: &[(Protocol, u16)]) -> Result<Self> {
        let server = Self {
            ns: ns.clone(),
            name: name.to_owned(),
            shared: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for &(protocol, port) in ports {
            for &address in addresses {
                server
                    .listen(protocol, SocketAddr::new(address, port))
                    .with_context(|| {
                        format!(
                            "server {name}: {protocol:?} {address} port {port} in {}",
                            ns.name()
                        )
                    })?;
            }
        }
        Ok(server)
    }

    /// The name it answers with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// TCP connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// TCP connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Requests it has answered, TCP and UDP.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Closes all its sockets; returns when they are closed.
    pub fn stop(self) {
        drop(self);
    }

    fn listen(&self, protocol: Protocol, address: SocketAddr) -> io::Result<()> {
        let service = Service {
            name: self.name.clone(),
            counters: Arc::clone(&self.shared),
            stop: self.stop.clone(),
            tasks: self.tasks.clone(),
        };
        self.ns.block_on(async move {
            match protocol {
                Protocol::Tcp => {
                    let socket = if address.is_ipv4() {
                        TcpSocket::new_v4()
                    } else {
                        TcpSocket::new_v6()
                    }?;
                    socket.set_reuseaddr(true)?;
                    socket.bind(address)?;
                    let listener = socket.listen(BACKLOG)?;
                    service.clone().run(async move { service.accept(listener).await });
                }
                Protocol::Udp => {
                    let socket = UdpSocket::bind(address).await?;
                    service
                        .clone()
                        .run(async move { service.datagrams(socket).await });
                }
            }
            Ok(())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.close();
        let tasks = self.tasks.clone();
        // With the namespace gone its sockets are closed too; and a task that does not end in time has no say.
        let _ = self
            .ns
            .try_block_on(async move { tokio::time::timeout(CLOSING, tasks.wait()).await });
    }
}

/// What each task of a server has in hand.
#[derive(Debug, Clone)]
struct Service {
    name: String,
    counters: Arc<Counters>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Service {
    /// Runs a task until it ends or the server stops.
    fn run(self, work: impl Future<Output = io::Result<()>> + Send + 'static) {
        let stop = self.stop;
        // An error is a caller that went away; the caller's side tells what happened.
        self.tasks
            .spawn(async move { stop.run_until_cancelled(work).await });
    }

    async fn accept(self, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, client) = listener.accept().await?;
            self.counters.accepted.fetch_add(1, Ordering::Relaxed);
            let service = self.clone();
            self.clone()
                .run(async move { service.converse(stream, client).await });
        }
    }

    async fn converse(self, stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        let _open = Open::count(&self.counters);
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            let answer = self.answer(client, local, &line)?;
            stream.get_mut().write_all(&answer).await?;
            line.clear();
        }
        Ok(())
    }

    async fn datagrams(self, socket: UdpSocket) -> io::Result<()> {
        let local = socket.local_addr()?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            // A datagram can fail with the ICMP error of an earlier one; that is no reason to stop serving.
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let answer = self.answer(client, local, &String::from_utf8_lossy(&buffer[..length]))?;
            let _ = socket.send_to(&answer, client).await;
        }
    }

    fn answer(&self, client: SocketAddr, local: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let answer = Answer {
            pod: self.name.clone(),
            client: canonical(client),
            local: canonical(local),
            echo: request.trim_end().to_owned(),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        self.counters.answered.fetch_add(1, Ordering::Relaxed);
        Ok(line)
    }
}

/// Counts a connection as open while it lives.
struct Open(Arc<Counters>);

impl Open {
    fn count(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
