//! Frames as they are on a device: collecting and injecting them, through a packet socket.
//!
//! The kernel takes VLAN tags out of frames before a packet socket sees them, and gives frames of local senders with
//! whatever checksum they have then. What native XDP consumes on a device never gets here: look at the other end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recvfrom, send,
    socket,
};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::link::Link;
use crate::poll;

/// The longest frame: GRO and GSO make such of 64 KiB and its headers.
const LONGEST: usize = 70 * 1024;

/// A frame that went over a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Everything from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// Whether it was sent by the device's own namespace.
    pub outgoing: bool,
}

/// Collects a device's frames until it is dropped.
#[derive(Debug)]
pub struct Capture {
    collected: Arc<Collected>,
    task: AbortHandle,
    device: String,
}

impl Capture {
    /// Begins; frames from when this returns are collected.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn start(link: &Link) -> Result<Self> {
        let index = link.index();
        let socket = link
            .ns()
            .block_on(async move { open(index).and_then(register) })
            .with_context(|| format!("capturing on {link}"))?;
        let collected = Arc::new(Collected {
            socket,
            frames: Mutex::default(),
        });
        let task = {
            let collected = Arc::clone(&collected);
            link.ns()
                .spawn(async move { collected.keep_up().await })
                .abort_handle()
        };
        Ok(Self {
            collected,
            task,
            device: link.to_string(),
        })
    }

    /// All frames until now.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        // What the task has not got round to is read here: whatever went over the device before the call counts.
        self.collected.drain();
        self.collected.lock().clone()
    }

    /// Waits for a frame that `wanted` accepts, among those collected already too.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        poll::until(&format!("{what} on {}", self.device), limit, || {
            let frames = self.frames();
            frames
                .iter()
                .find(|frame| wanted(frame))
                .cloned()
                .ok_or_else(|| format!("{} other frames", frames.len()))
        })
    }

    /// Sends a frame out of the device. It is not among this capture's own frames, but among any other's.
    ///
    /// # Errors
    /// When the kernel refuses it, for example because it is too long or the device is down.
    pub fn inject(&self, frame: &[u8]) -> Result<()> {
        send(
            self.collected.socket.get_ref().as_raw_fd(),
            frame,
            MsgFlags::empty(),
        )
        .map(drop)
        .with_context(|| format!("injecting on {}", self.device))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The frames of a socket, whoever reads them off it.
#[derive(Debug)]
struct Collected {
    socket: AsyncFd<OwnedFd>,
    frames: Mutex<Vec<Frame>>,
}

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads off the socket as frames come, so that its buffer does not overflow.
    async fn keep_up(&self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            ready.clear_ready();
            self.drain();
        }
    }

    /// Reads all frames that are there.
    fn drain(&self) {
        // Held while reading: two readers must not change the frames' order.
        let mut frames = self.lock();
        let mut buffer = vec![0; LONGEST];
        loop {
            match recvfrom::<LinkAddr>(self.socket.get_ref().as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let outgoing = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
                    frames.push(Frame {
                        bytes: buffer[..length].to_vec(),
                        outgoing,
                    });
                }
                Err(Errno::EINTR) => {}
                // Nothing more; or the device went down, which is said once and heals when it comes up.
                Err(_) => break,
            }
        }
    }
}

/// Hands a socket to the runtime this is called in.
fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and always the same descriptor, for as long as the `AsyncFd` holds it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

fn open(index: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Made deaf, or frames of all devices would come in before it is bound to one.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None::<SockProtocol>)?;
    bind(socket.as_raw_fd(), &address(index)?)?;
    Ok(socket)
}

/// The packet-socket address of all protocols on a device.
fn address(index: u32) -> io::Result<LinkAddr> {
    let raw = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&raw)).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a whole `sockaddr_ll` of `length` bytes, family AF_PACKET, which is copied.
    let address = unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) };
    address.ok_or_else(|| Errno::EINVAL.into())
}
