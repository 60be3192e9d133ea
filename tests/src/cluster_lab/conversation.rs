//! Clients that say more than one thing: a UDP socket that is kept, and a great deal of data on one connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::client::{Outcome, judge, question};
use crate::netns::NsHandle;
use crate::server::{Answer, Protocol};

/// A connected UDP socket: the same flow for every request.
#[derive(Debug)]
pub struct Association {
    ns: NsHandle,
    socket: Arc<UdpSocket>,
}

impl Association {
    /// Opens one, from a port of the kernel's choice or a given one (0 is any).
    ///
    /// # Errors
    /// When the port is taken.
    pub fn open(ns: &NsHandle, from_port: u16, to: SocketAddr) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = ns.block_on(async move {
            let socket = UdpSocket::bind((any, from_port)).await?;
            socket.connect(to).await?;
            io::Result::Ok(socket)
        })?;
        Ok(Self {
            ns: ns.clone(),
            socket: Arc::new(socket),
        })
    }

    /// One request, sent once.
    #[must_use]
    pub fn request(&self, patience: Duration) -> Outcome {
        let socket = Arc::clone(&self.socket);
        self.ns.block_on(async move {
            let question = question();
            let mut buffer = vec![0; usize::from(u16::MAX)];
            let exchange = async {
                socket.send(question.as_bytes()).await?;
                socket.recv(&mut buffer).await
            };
            match timeout(patience, exchange).await {
                Ok(Ok(length)) => judge(&question, &buffer[..length]),
                Ok(Err(error)) => Outcome::of_error(&error, Protocol::Udp),
                Err(_) => Outcome::TimedOut,
            }
        })
    }
}

/// Sends `bytes` of text as one request on a TCP connection and gives the server's answer, whose echo has been compared
/// with what was sent, byte by byte.
///
/// # Errors
/// When the connection fails, takes longer than `limit`, or the text comes back changed.
pub fn bulk(ns: &NsHandle, to: SocketAddr, bytes: usize, limit: Duration) -> Result<Answer> {
    let answer = ns.block_on(async move {
        let text: Vec<u8> = (0..bytes).map(|_| rand::random_range(b'a'..=b'z')).collect();
        let text = Arc::new(text);
        let exchange = async {
            let stream = TcpStream::connect(to).await?;
            let (mut reader, mut writer) = stream.into_split();
            let sent = Arc::clone(&text);
            let sending = tokio::spawn(async move {
                writer.write_all(&sent).await?;
                writer.write_all(b"\n").await?;
                writer.shutdown().await
            });
            let mut reply = Vec::with_capacity(bytes + 512);
            reader.read_to_end(&mut reply).await?;
            sending.await??;
            anyhow::Ok(reply)
        };
        let reply = timeout(limit, exchange)
            .await
            .with_context(|| format!("{bytes} bytes not there and back within {limit:?}"))??;
        let answer: Answer = serde_json::from_slice(&reply).context("the server's answer")?;
        ensure!(
            answer.echo.as_bytes() == text.as_slice(),
            "{bytes} bytes came back changed"
        );
        Ok(answer)
    });
    answer.with_context(|| format!("sending to {to} from {}", ns.name()))
}
