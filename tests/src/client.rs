//! Callers of [`crate::server`]s, which say exactly how a call went.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nix::libc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::netns::NsHandle;
use crate::server::{Answer, Protocol};

/// How long a call may take, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections opened at the same time: enough to be quick, few enough not to overflow a listener's queue.
const AT_ONCE: usize = 128;

/// How a call went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The right answer came.
    Answered(Answer),
    /// TCP: a reset (or a port unreachable, which the kernel reports alike) instead of a connection.
    Refused,
    /// An ICMP error came.
    Unreachable,
    /// Nothing came.
    TimedOut,
    /// Something else came: the connection ended half-way, or an answer to another question.
    Broken(String),
}

impl Outcome {
    /// The answer.
    ///
    /// # Panics
    /// When there is none: with the outcome.
    pub fn answer(self) -> Answer {
        match self {
            Self::Answered(answer) => answer,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// Who answered, if anybody.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Answered(answer) => Some(&answer.pod),
            _ => None,
        }
    }

    pub(crate) fn of_error(error: &io::Error, protocol: Protocol) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) if protocol == Protocol::Tcp => Self::Refused,
            Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES) => {
                Self::Unreachable
            }
            Some(libc::ETIMEDOUT) => Self::TimedOut,
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(answer) => write!(f, "answered by {} (saw {})", answer.pod, answer.client),
            Self::Refused => write!(f, "refused"),
            Self::Unreachable => write!(f, "unreachable"),
            Self::TimedOut => write!(f, "timed out"),
            Self::Broken(what) => write!(f, "broken: {what}"),
        }
    }
}

/// Makes calls from a namespace.
#[derive(Debug, Clone)]
pub struct Caller {
    ns: NsHandle,
    manner: Manner,
}

/// How to call.
#[derive(Debug, Clone, Copy)]
struct Manner {
    patience: Duration,
    address: Option<IpAddr>,
    port: u16,
}

impl Caller {
    /// Calls from a fresh port each time, from the address the kernel chooses.
    #[must_use]
    pub fn new(ns: &NsHandle) -> Self {
        Self {
            ns: ns.clone(),
            manner: Manner {
                patience: PATIENCE,
                address: None,
                port: 0,
            },
        }
    }

    /// Gives each step of a call (connecting, an answer) this long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.manner.patience = patience;
        self
    }

    /// Calls from this address.
    #[must_use]
    pub fn from_address(mut self, address: IpAddr) -> Self {
        self.manner.address = Some(address);
        self
    }

    /// Calls from this port.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        self.manner.port = port;
        self
    }

    /// One request, by either protocol.
    #[must_use]
    pub fn call(&self, protocol: Protocol, to: SocketAddr) -> Outcome {
        self.ns.block_on(self.call_async(protocol, to))
    }

    /// One request on a TCP connection of its own.
    #[must_use]
    pub fn tcp(&self, to: SocketAddr) -> Outcome {
        self.call(Protocol::Tcp, to)
    }

    /// One request by UDP. Nothing is ever sent twice.
    #[must_use]
    pub fn udp(&self, to: SocketAddr) -> Outcome {
        self.call(Protocol::Udp, to)
    }

    /// [`Caller::call`] as a future, to be run inside the namespace (`ns.spawn`).
    pub fn call_async(
        &self,
        protocol: Protocol,
        to: SocketAddr,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let manner = self.manner;
        async move {
            match protocol {
                Protocol::Tcp => match connect(to, manner).await {
                    Ok(mut stream) => ask(&mut stream, manner.patience).await,
                    Err(outcome) => outcome,
                },
                Protocol::Udp => datagram(to, manner).await.unwrap_or_else(|outcome| outcome),
            }
        }
    }

    /// Many calls at the same time; outcomes come in no order.
    #[must_use]
    pub fn calls(&self, protocol: Protocol, to: SocketAddr, count: usize) -> Vec<Outcome> {
        let caller = self.clone();
        self.ns.block_on(async move {
            futures::stream::iter((0..count).map(|_| caller.call_async(protocol, to)))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await
        })
    }

    /// Opens a TCP connection and keeps it.
    ///
    /// # Errors
    /// The outcome, when there is no connection.
    pub fn connect(&self, to: SocketAddr) -> Result<Connection, Outcome> {
        let manner = self.manner;
        let stream = self.ns.block_on(async move { connect(to, manner).await })?;
        Ok(Connection {
            ns: self.ns.clone(),
            patience: manner.patience,
            stream: Some(stream),
        })
    }

    /// Opens many TCP connections and keeps them.
    ///
    /// # Errors
    /// When not all could be opened: with how the failures went.
    pub fn crowd(&self, to: SocketAddr, count: usize) -> Result<Crowd> {
        let manner = self.manner;
        let opened: Vec<_> = self.ns.block_on(async move {
            let all = futures::stream::iter((0..count).map(move |_| connect(to, manner)));
            all.buffer_unordered(AT_ONCE).collect().await
        });
        let (streams, failures): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        let first = failures.into_iter().find_map(Result::err);
        ensure!(
            first.is_none(),
            "{} of {count} connections to {to} opened: {first:?}",
            streams.len()
        );
        let streams = streams.into_iter().filter_map(Result::ok).collect();
        Ok(Crowd {
            ns: self.ns.clone(),
            patience: manner.patience,
            streams,
        })
    }
}

/// An open TCP connection.
#[derive(Debug)]
pub struct Connection {
    ns: NsHandle,
    patience: Duration,
    stream: Option<BufReader<TcpStream>>,
}

impl Connection {
    /// Sends a request on it. A connection that broke once stays broken.
    #[must_use]
    pub fn request(&mut self) -> Outcome {
        let patience = self.patience;
        let Some(mut stream) = self.stream.take() else {
            return Outcome::Broken("broken before".to_owned());
        };
        let (outcome, stream) = self.ns.block_on(async move {
            let outcome = ask(&mut stream, patience).await;
            (outcome, stream)
        });
        if outcome.by().is_some() {
            self.stream = Some(stream);
        }
        outcome
    }

    /// Its own address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.stream
            .as_ref()
            .and_then(|stream| stream.get_ref().local_addr().ok())
    }
}

/// Many open TCP connections.
#[derive(Debug)]
pub struct Crowd {
    ns: NsHandle,
    patience: Duration,
    streams: Vec<BufReader<TcpStream>>,
}

impl Crowd {
    /// Sends a request on each and waits for all answers. Those that broke are gone from the crowd afterwards.
    #[must_use]
    pub fn exercise(&mut self) -> Vec<Outcome> {
        let patience = self.patience;
        let streams = std::mem::take(&mut self.streams);
        let done: Vec<_> = self.ns.block_on(async move {
            let all: FuturesUnordered<_> = streams
                .into_iter()
                .map(async |mut stream| {
                    let outcome = ask(&mut stream, patience).await;
                    (outcome, stream)
                })
                .collect();
            all.collect().await
        });
        let mut outcomes = Vec::with_capacity(done.len());
        for (outcome, stream) in done {
            if outcome.by().is_some() {
                self.streams.push(stream);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// How many are open, as far as known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

impl Manner {
    fn source(self, to: SocketAddr) -> SocketAddr {
        let any = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        SocketAddr::new(self.address.unwrap_or(any), self.port)
    }
}

async fn connect(to: SocketAddr, manner: Manner) -> Result<BufReader<TcpStream>, Outcome> {
    let connecting = async {
        let socket = if to.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        if manner.address.is_some() || manner.port != 0 {
            socket.set_reuseaddr(true)?;
            socket.bind(manner.source(to))?;
        }
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    };
    match timeout(manner.patience, connecting).await {
        Ok(connected) => connected.map_err(|error: io::Error| Outcome::of_error(&error, Protocol::Tcp)),
        Err(_) => Err(Outcome::TimedOut),
    }
}

async fn ask(stream: &mut BufReader<TcpStream>, patience: Duration) -> Outcome {
    let question = question();
    let mut line = String::new();
    let exchange = async {
        stream
            .get_mut()
            .write_all(format!("{question}\n").as_bytes())
            .await?;
        stream.read_line(&mut line).await
    };
    match timeout(patience, exchange).await {
        Ok(Ok(0)) => Outcome::Broken("the other side closed the connection".to_owned()),
        Ok(Ok(_)) => judge(&question, line.as_bytes()),
        Ok(Err(error)) => Outcome::Broken(error.to_string()),
        Err(_) => Outcome::TimedOut,
    }
}

async fn datagram(to: SocketAddr, manner: Manner) -> Result<Outcome, Outcome> {
    let failed = |error: io::Error| Outcome::of_error(&error, Protocol::Udp);
    let question = question();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let socket = UdpSocket::bind(manner.source(to)).await.map_err(failed)?;
    // Connected, so that ICMP errors are reported, and answers from anybody else are not.
    socket.connect(to).await.map_err(failed)?;
    socket.send(question.as_bytes()).await.map_err(failed)?;
    match timeout(manner.patience, socket.recv(&mut buffer)).await {
        Ok(Ok(length)) => Ok(judge(&question, &buffer[..length])),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(Outcome::TimedOut),
    }
}

/// A request nobody else sends, so that an answer to something else is noticed.
pub(crate) fn question() -> String {
    format!("{:016x}", rand::random::<u64>())
}

pub(crate) fn judge(question: &str, reply: &[u8]) -> Outcome {
    match serde_json::from_slice::<Answer>(reply) {
        Ok(answer) if answer.echo == question => Outcome::Answered(answer),
        Ok(answer) => Outcome::Broken(format!("asked {question}, answered was {}", answer.echo)),
        Err(error) => Outcome::Broken(format!(
            "not an answer: {error}: {}",
            String::from_utf8_lossy(reply)
        )),
    }
}
