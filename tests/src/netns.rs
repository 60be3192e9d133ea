//! Network namespaces that live as long as the value that made them, and running code inside one.
//!
//! Each namespace has one OS thread that lives in it and drives a current-thread tokio runtime: whatever is spawned
//! there opens its sockets in the namespace. The name under `/run/netns` lets people look in with `ip netns exec`.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::scratch::{self, NETNS_DIR};

/// How long a namespace's runtime may take to stop blocking tasks.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// A network namespace; removed on drop.
#[derive(Debug)]
pub struct Netns {
    handle: NsHandle,
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Access to a namespace that somebody else keeps alive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NsHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    file: File,
    runtime: Handle,
    thread: ThreadId,
    netlink: rtnetlink::Handle,
}

impl Netns {
    /// Makes a namespace with `lo` up, visible to `ip netns` as `xvl-<pid>-<serial>-<label>`.
    ///
    /// # Errors
    /// When not root, or when the kernel refuses.
    pub fn new(label: &str) -> Result<Self> {
        scratch::prepare()?;
        let name = scratch::unique_name(label);
        let path = Path::new(NETNS_DIR).join(&name);
        let (ready, made) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let (name, path) = (name.clone(), path.clone());
            thread::Builder::new()
                .name(name.clone())
                .spawn(move || live_inside(name, &path, &ready, stopped))
                .context("starting the namespace's thread")?
        };
        let inner = made
            .recv()
            .map_err(|_| anyhow!("the thread of namespace {name} died"))
            .flatten()
            .inspect_err(|_| scratch::remove_netns_name(&path))
            .with_context(|| format!("making network namespace {name}"))?;
        let handle = NsHandle {
            inner: Arc::new(inner),
        };
        let netns = Self {
            handle,
            path,
            stop: Some(stop),
            thread: Some(thread),
        };
        netns.link("lo")?.up()?;
        Ok(netns)
    }

    /// A handle for tasks and values that do not own the namespace.
    #[must_use]
    pub fn handle(&self) -> NsHandle {
        self.handle.clone()
    }
}

impl Deref for Netns {
    type Target = NsHandle;

    fn deref(&self) -> &NsHandle {
        &self.handle
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && !self.handle.is_current()
        {
            // A panic of its was reported where the task was awaited.
            let _ = thread.join();
        }
        scratch::remove_netns_name(&self.path);
    }
}

impl NsHandle {
    /// The name `ip netns` shows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The namespace itself, for `setns` and for moving links.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.inner.file
    }

    /// The namespace's netlink socket.
    #[must_use]
    pub fn netlink(&self) -> &rtnetlink::Handle {
        &self.inner.netlink
    }

    /// Runs a future inside, without waiting for it.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner.runtime.spawn(future)
    }

    /// Runs a future inside and waits for it. It must bound its own waiting.
    ///
    /// # Panics
    /// When the future does, when the namespace is gone, and when called from inside (it would wait for itself).
    pub fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.try_block_on(future)
            .unwrap_or_else(|| panic!("namespace {} is gone", self.name()))
    }

    /// As [`NsHandle::block_on`], but `None` when the namespace is gone: for clean-up.
    ///
    /// # Panics
    /// When the future does, and when called from inside.
    pub fn try_block_on<F>(&self, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        assert!(
            !self.is_current(),
            "block_on from inside namespace {} would wait for itself",
            self.name()
        );
        match futures::executor::block_on(self.spawn(future)) {
            Ok(output) => Some(output),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Runs a closure on the namespace's thread and waits for it.
    ///
    /// # Panics
    /// As [`NsHandle::block_on`].
    pub fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        self.block_on(async move { work() })
    }

    /// Sets a sysctl, named as in `/proc/sys` (`net/ipv4/ip_forward`).
    ///
    /// # Errors
    /// When there is no such sysctl here, or it refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        let text = value.to_owned();
        self.run(move || fs::write(path, text))
            .with_context(|| format!("sysctl {name}={value} in {}", self.name()))
    }

    /// Sets a sysctl that not every kernel has: absence is fine.
    ///
    /// # Errors
    /// When it is there and refuses the value.
    pub fn sysctl_if_present(&self, name: &str, value: &str) -> Result<()> {
        match self.sysctl(name, value) {
            Err(error)
                if error
                    .downcast_ref::<io::Error>()
                    .is_some_and(|e| e.kind() == io::ErrorKind::NotFound) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn is_current(&self) -> bool {
        thread::current().id() == self.inner.thread
    }
}

/// The namespace's thread: makes it, reports, and runs what it is sent until the owner goes away.
fn live_inside(
    name: String,
    path: &Path,
    ready: &mpsc::SyncSender<Result<Inner>>,
    stopped: oneshot::Receiver<()>,
) {
    let built = enter_new(path).and_then(|file| {
        let own = file.try_clone()?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Blocking tasks get threads of their own, which start in whatever namespace asked for them.
            .on_thread_start(move || {
                setns(own.as_fd(), CloneFlags::CLONE_NEWNET)
                    .expect("a namespace that is open can be entered");
            })
            .build()?;
        Ok((file, runtime))
    });
    let (file, runtime) = match built {
        Ok(built) => built,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let netlink = {
        let _context = runtime.enter();
        rtnetlink::new_connection().map(|(connection, netlink, _)| {
            runtime.spawn(connection);
            netlink
        })
    };
    let inner = netlink.context("opening netlink").map(|netlink| Inner {
        name,
        file,
        runtime: runtime.handle().clone(),
        thread: thread::current().id(),
        netlink,
    });
    if ready.send(inner).is_ok() {
        // Ends by the sender's drop, never by a value.
        let _ = runtime.block_on(stopped);
    }
    runtime.shutdown_timeout(SHUTDOWN);
}

fn enter_new(path: &Path) -> Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
    let own = Path::new("/proc/thread-self/ns/net");
    fs::create_dir_all(NETNS_DIR).with_context(|| format!("making {NETNS_DIR}"))?;
    File::create_new(path).with_context(|| format!("making {}", path.display()))?;
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("mounting the namespace at {}", path.display()))?;
    File::open(own).context("opening the namespace")
}
