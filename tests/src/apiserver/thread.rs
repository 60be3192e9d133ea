//! The thread a server lives on.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::netns::NsHandle;

/// The thread a server runs on, in the namespace it is to be seen in. Ends on drop.
#[derive(Debug)]
pub(super) struct Thread {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start(ns: Option<NsHandle>) -> Result<Self> {
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || {
                let entered = ns
                    .as_ref()
                    .map_or(Ok(()), |ns| setns(ns.file().as_fd(), CloneFlags::CLONE_NEWNET))
                    .context("entering the server's namespace");
                let runtime =
                    entered.and_then(|()| Ok(Builder::new_current_thread().enable_all().build()?));
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                if ready.send(Ok(runtime.handle().clone())).is_ok() {
                    // Ends by the sender's drop, never by a value.
                    let _ = runtime.block_on(stopped);
                }
            })
            .context("starting the server's thread")?;
        let runtime = started
            .recv()
            .map_err(|_| anyhow!("the server's thread died"))
            .flatten()?;
        Ok(Self {
            runtime,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Runs a future on the thread and waits for it, blocking also in an asynchronous test: the future needs nothing of it.
    pub(super) fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (done, result) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = done.send(future.await);
        });
        result.recv().expect("the server's thread outlives the server")
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its was reported where it happened.
            let _ = thread.join();
        }
    }
}
