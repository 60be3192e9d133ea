//! A connection that can be held up, cut short or reset from outside.
//!
//! Sits between the socket and TLS. Must not know: HTTP.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A valve in all connections of a server. Shut, nothing is read and nothing written, while the kernel goes on accepting.
#[derive(Debug, Default)]
pub(super) struct Valve {
    /// Who waits for it to open; `None` while it is open.
    waiting: Mutex<Option<Vec<Waker>>>,
}

impl Valve {
    pub(super) fn shut(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_default();
    }

    pub(super) fn open(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        for waker in waiting.into_iter().flatten() {
            waker.wake();
        }
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        match self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            None => Poll::Ready(()),
            Some(waiting) => {
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

const CUT_NEXT_WRITE: u8 = 1;
const CUT: u8 = 2;
const RESET: u8 = 3;

/// Ends one connection in a way of choice. Clones act on the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    how: Arc<AtomicU8>,
    over: CancellationToken,
}

impl Ending {
    /// Resets the connection (RST), whatever is under way.
    pub(super) fn reset(&self) {
        self.how.store(RESET, Ordering::SeqCst);
        self.over.cancel();
    }

    /// Half of what is written next is sent, then the connection is closed (FIN).
    pub(super) fn cut_next_write(&self) {
        self.how.store(CUT_NEXT_WRITE, Ordering::SeqCst);
    }

    /// Resolves when the connection is to be dropped.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// A TCP connection behind a [`Valve`], with an [`Ending`].
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    valve: Arc<Valve>,
    ending: Ending,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, valve: Arc<Valve>, ending: Ending) -> Self {
        Self {
            stream,
            valve,
            ending,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.ending.how.load(Ordering::SeqCst) == RESET {
            // A socket that refuses was closed by the other side before.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.valve.poll_open(cx));
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.valve.poll_open(cx));
        match self.ending.how.load(Ordering::SeqCst) {
            CUT_NEXT_WRITE => {
                let half = bytes.len().div_ceil(2);
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..half]))?;
                self.ending.how.store(CUT, Ordering::SeqCst);
                self.ending.over.cancel();
                Poll::Ready(Ok(written))
            }
            CUT => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            _ => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.valve.poll_open(cx));
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.valve.poll_open(cx));
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
