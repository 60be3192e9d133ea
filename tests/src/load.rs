//! Clients that call without end in the background while a test does things, and the account of how their calls went.
//!
//! Each client waits a moment between its calls, so that the load is steady and leaves the machine to what is tested.
//!
//! Must not know: what is called.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::{Caller, Outcome, judge, question};
use crate::netns::NsHandle;
use crate::poll;
use crate::server::Protocol;

/// Between the calls of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a call may take: for a busy machine, and long enough for a SYN that is sent three times.
const PATIENCE: Duration = Duration::from_secs(8);
/// How many failures the account tells in full.
const TOLD: usize = 5;
/// How long the clients may take to make the calls a test waits for.
const WAITED_FOR: Duration = Duration::from_secs(30);

/// How a client calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A TCP connection for each request: together they are a connect storm.
    Connections,
    /// A datagram from a new port for each request.
    Datagrams,
    /// Datagrams from one port: the same flow for every request, so that one backend has to answer all of them.
    Association,
}

/// Clients at work in a namespace. They stop on drop.
#[derive(Debug)]
pub struct Load {
    ns: NsHandle,
    manner: Manner,
    shared: Arc<Shared>,
    syn_retransmits_before: u64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    account: Mutex<Account>,
}

/// How the calls of a load went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// How they were made.
    pub manner: Manner,
    /// Those that got the right answer.
    pub answered: u64,
    /// Those that did not, by how they went: `refused`, `timed out` …
    pub failed: BTreeMap<&'static str, u64>,
    /// Answers from another backend than the one before, of associations alone.
    pub moved: u64,
    /// SYNs the namespace sent again meanwhile: loss that its TCP has hidden from the callers.
    pub syn_retransmits: u64,
    /// The first failures, each with when it happened.
    pub failures: Vec<String>,
}

impl Load {
    /// Sets `clients` clients to work. Those of [`Manner::Association`] keep to one of the addresses, the others call one after
    /// the other.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    pub fn start(ns: &NsHandle, manner: Manner, to: &[SocketAddr], clients: usize) -> Result<Self> {
        let load = Self {
            ns: ns.clone(),
            manner,
            shared: Arc::new(Shared {
                begun: Instant::now(),
                account: Mutex::new(Account::new(manner)),
            }),
            syn_retransmits_before: syn_retransmits(ns)?,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for client in 0..clients {
            let addresses: Vec<_> = to.iter().copied().cycle().skip(client).take(to.len()).collect();
            let work = work(load.ns.clone(), manner, addresses, Arc::clone(&load.shared));
            let work = load.stop.clone().run_until_cancelled_owned(work);
            ns.spawn(load.tasks.track_future(work));
        }
        Ok(load)
    }

    /// Waits until `calls` more calls have ended, well or not.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_calls(&self, calls: u64) -> Result<()> {
        let enough = self.shared.account().calls() + calls;
        poll::until(&format!("{calls} more calls"), WAITED_FOR, || {
            let account = self.shared.account();
            if account.calls() >= enough {
                Ok(())
            } else {
                Err(account.to_string())
            }
        })
    }

    /// Ends it, and says how it went. Calls that have not ended are not counted.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    pub fn stop(self) -> Result<Account> {
        self.stop.cancel();
        self.tasks.close();
        let tasks = self.tasks.clone();
        self.ns.block_on(async move { tasks.wait().await });
        let mut account = self.shared.account().clone();
        if self.manner == Manner::Connections {
            account.syn_retransmits = syn_retransmits(&self.ns)? - self.syn_retransmits_before;
        }
        Ok(account)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Account {
    fn new(manner: Manner) -> Self {
        Self {
            manner,
            answered: 0,
            failed: BTreeMap::new(),
            moved: 0,
            syn_retransmits: 0,
            failures: Vec::new(),
        }
    }

    /// How many calls have ended.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.answered + self.failed.values().sum::<u64>()
    }

    /// Whether every call was answered, and no association by two backends.
    #[must_use]
    pub fn is_faultless(&self) -> bool {
        self.failed.is_empty() && self.moved == 0
    }
}

impl fmt::Display for Account {
    /// One line, and one more for each failure that is told in full.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.manner {
            Manner::Connections => "connections",
            Manner::Datagrams => "datagrams from new ports",
            Manner::Association => "datagrams from kept ports",
        };
        write!(f, "{} {what}: {} answered", self.calls(), self.answered)?;
        for (how, count) in &self.failed {
            write!(f, ", {count} {how}")?;
        }
        match self.manner {
            Manner::Connections => write!(f, ", {} SYNs sent again", self.syn_retransmits)?,
            Manner::Datagrams => {}
            Manner::Association => write!(f, ", {} moved to another backend", self.moved)?,
        }
        self.failures
            .iter()
            .try_for_each(|failure| write!(f, "\n  {failure}"))
    }
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down how a call went; gives who answered.
    fn note(&self, to: SocketAddr, outcome: &Outcome) {
        let how = match outcome {
            Outcome::Answered(_) => {
                self.account().answered += 1;
                return;
            }
            Outcome::Refused => "refused",
            Outcome::Unreachable => "unreachable",
            Outcome::TimedOut => "timed out",
            Outcome::Broken(_) => "broken",
        };
        let mut account = self.account();
        *account.failed.entry(how).or_default() += 1;
        self.tell(&mut account, to, &outcome.to_string());
    }

    fn note_move(&self, to: SocketAddr, from: &str, by: &str) {
        let mut account = self.account();
        account.moved += 1;
        self.tell(&mut account, to, &format!("answered by {by} after {from}"));
    }

    fn tell(&self, account: &mut Account, to: SocketAddr, what: &str) {
        if account.failures.len() < TOLD {
            let after = self.begun.elapsed();
            account.failures.push(format!("after {after:.1?}, {to}: {what}"));
        }
    }
}

/// One client, until it is stopped.
async fn work(ns: NsHandle, manner: Manner, to: Vec<SocketAddr>, shared: Arc<Shared>) {
    let protocol = match manner {
        Manner::Association => return associate(to[0], &shared).await,
        Manner::Connections => Protocol::Tcp,
        Manner::Datagrams => Protocol::Udp,
    };
    let caller = Caller::new(&ns).patience(PATIENCE);
    for to in to.into_iter().cycle() {
        let outcome = caller.call_async(protocol, to).await;
        shared.note(to, &outcome);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn associate(to: SocketAddr, shared: &Shared) {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let failed = |error: io::Error| Outcome::of_error(&error, Protocol::Udp);
    let mut last: Option<String> = None;
    let opened = async {
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(to).await?;
        Ok(socket)
    };
    let socket = match opened.await {
        Ok(socket) => socket,
        Err(error) => return shared.note(to, &failed(error)),
    };
    loop {
        let outcome = ask(&socket).await.unwrap_or_else(failed);
        shared.note(to, &outcome);
        if let Some(by) = outcome.by() {
            if let Some(from) = last.as_deref().filter(|from| *from != by) {
                shared.note_move(to, from, by);
            }
            last = Some(by.to_owned());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(socket: &UdpSocket) -> io::Result<Outcome> {
    let question = question();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    socket.send(question.as_bytes()).await?;
    match tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await {
        Ok(length) => Ok(judge(&question, &buffer[..length?])),
        Err(_) => Ok(Outcome::TimedOut),
    }
}

/// The namespace's count of `TCPSynRetrans`.
fn syn_retransmits(ns: &NsHandle) -> Result<u64> {
    let text = ns
        .run(|| fs::read_to_string("/proc/thread-self/net/netstat"))
        .context("reading the TCP counters")?;
    // Two lines a protocol: names, then numbers.
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = lines.next().zip(lines.next()).context("no TcpExt in netstat")?;
    let mut counters = names.split(' ').zip(numbers.split(' '));
    let (_, number) = counters
        .find(|(name, _)| *name == "TCPSynRetrans")
        .context("no TCPSynRetrans in netstat")?;
    Ok(number.parse()?)
}
