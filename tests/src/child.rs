//! Child processes that start inside a namespace and never outlive it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::thread;

use crate::netns::NsHandle;

impl NsHandle {
    /// Starts a process inside. It is killed when the namespace's thread ends, so also when the test is killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, mut command: Command) -> io::Result<Child> {
        // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call; it allocates
        // nothing and takes no lock.
        unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)) };
        // A child inherits the namespace of the thread that forks it.
        self.run(move || command.spawn())
    }

    /// Runs a process inside to its end, and kills it at `limit`.
    ///
    /// # Errors
    /// When it cannot be started, or has not ended within `limit`.
    pub fn output(&self, mut command: Command, limit: Duration) -> Result<Output> {
        let words = format!("{command:?}");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.start(command).with_context(|| format!("starting {words}"))?;
        let pid = child.id();
        // The pipes are drained on a thread while this one watches the clock: a full pipe must not look like a hang.
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let out = thread::spawn(move || drain(stdout.as_mut()));
        let err = thread::spawn(move || drain(stderr.as_mut()));
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                bail!("{words} (pid {pid}) had not ended after {limit:?}");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let collect = |reader: thread::JoinHandle<io::Result<Vec<u8>>>| {
            reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        Ok(Output {
            status,
            stdout: collect(out)?,
            stderr: collect(err)?,
        })
    }
}

fn drain(pipe: Option<&mut impl io::Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
