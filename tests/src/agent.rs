//! Running `xvip` on a node: the agent as a child process with a bpffs of its own, and the command line beside it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::NsHandle;
use crate::poll;
use crate::scratch::Scratch;

/// The line the agent logs when all it was given is in the kernel.
const READY: &str = "xvip: ready";
/// How long the agent may take to be ready: generous, for a busy machine verifying eBPF programs in a debug build.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end when asked to.
const END: Duration = Duration::from_secs(10);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(30);
/// How much of the log an error shows.
const TAIL_LINES: usize = 30;

/// The path of the `xvip` binary: `$XVIP_BIN`, or the one built into the target directory this executable is in.
///
/// # Errors
/// When it is not built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("XVIP_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("finding the test's own executable")?;
    let found = own
        .ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join("xvip"))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no xvip beside {}: build it with `cargo build -p lb-userspace --bin xvip` (`cargo xtask test` does)",
            own.display()
        )
    })
}

/// Where an agent gets its objects from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `dir:PATH`
    Directory(PathBuf),
    /// The Kubernetes API.
    Kube {
        /// The way to it.
        kubeconfig: PathBuf,
    },
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }
}

impl Source {
    fn arguments(self) -> Vec<OsString> {
        match self {
            Self::Directory(path) => {
                let mut source = OsString::from("dir:");
                source.push(path);
                vec!["--source".into(), source]
            }
            Self::Kube { kubeconfig } => vec![
                "--source".into(),
                "kube".into(),
                "--kubeconfig".into(),
                kubeconfig.into(),
            ],
        }
    }
}

/// A node's `xvip`: killed on drop, and all it pinned is gone then.
#[derive(Debug)]
pub struct Agent {
    ns: NsHandle,
    binary: PathBuf,
    arguments: Vec<OsString>,
    child: Option<Child>,
    /// Where the log of the running agent begins in the file.
    log_start: usize,
    // Dropped after the child is killed, by `Drop` below.
    scratch: Scratch,
    bpffs: PathBuf,
}

impl Agent {
    /// Starts `xvip agent --source SOURCE --bpffs PATH ARGUMENTS…` in a namespace. Does not wait: see
    /// [`Agent::wait_ready`].
    ///
    /// # Errors
    /// When the binary is not built or cannot be started.
    pub fn start(ns: &NsHandle, source: impl Into<Source>, arguments: &[&str]) -> Result<Self> {
        Self::start_binary(&binary()?, ns, source, arguments)
    }

    /// As [`Agent::start`], with another binary than the built one: an older version, or a double.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_binary(
        binary: &Path,
        ns: &NsHandle,
        source: impl Into<Source>,
        arguments: &[&str],
    ) -> Result<Self> {
        let scratch = Scratch::new("agent")?;
        let bpffs = scratch.mount_bpffs("bpf")?;
        let mut all: Vec<OsString> = vec!["agent".into()];
        all.extend(source.into().arguments());
        all.extend(["--bpffs".into(), bpffs.clone().into()]);
        all.extend(arguments.iter().map(OsString::from));
        let mut agent = Self {
            ns: ns.clone(),
            binary: binary.to_owned(),
            arguments: all,
            child: None,
            log_start: 0,
            scratch,
            bpffs,
        };
        agent.spawn()?;
        Ok(agent)
    }

    /// Starts and waits until it is ready.
    ///
    /// # Errors
    /// As [`Agent::start`] and [`Agent::wait_ready`].
    pub fn start_ready(ns: &NsHandle, source: impl Into<Source>, arguments: &[&str]) -> Result<Self> {
        let mut agent = Self::start(ns, source, arguments)?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Waits until the agent says that everything is in the kernel.
    ///
    /// # Errors
    /// When it ends first, or takes too long: with the end of its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let seen = poll::until("xvip agent ready", START, || {
            if self.log().lines().any(|line| line.contains(READY)) {
                return Ok(Ok(()));
            }
            match self.child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => Err("it runs and has not said so".to_owned()),
                Some(Ok(Some(status))) => Ok(Err(format!("the agent ended: {status}"))),
                Some(Err(error)) => Ok(Err(error.to_string())),
                None => Ok(Err("the agent is not started".to_owned())),
            }
        });
        let trouble = match seen {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(trouble)) => trouble,
            Err(error) => format!("{error:#}"),
        };
        bail!("in {}: {trouble}\n{}", self.ns.name(), self.tail())
    }

    /// Waits until the running agent has logged a line that contains `text`.
    ///
    /// # Errors
    /// When it does not within `limit`: with the end of its log.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        let found = poll::until(&format!("log line {text:?}"), limit, || {
            if self.log().contains(text) {
                Ok(())
            } else {
                Err("not there".to_owned())
            }
        });
        found.with_context(|| self.tail())
    }

    /// Kills the agent as `kill -9` does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the agent to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it does not end in time (it is killed then), or ends with an error.
    pub fn stop(&mut self) -> Result<()> {
        let Some(child) = self.child.as_mut() else {
            return Ok(());
        };
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM)?;
        let ended = poll::until("xvip agent ending on SIGTERM", END, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        let log = self.tail();
        self.kill9()?;
        let status = ended.with_context(|| log.clone())?;
        ensure!(status.success(), "xvip agent ended: {status}\n{log}");
        Ok(())
    }

    /// Starts it again on what it left behind, after [`Agent::kill9`] or [`Agent::stop`] (or kills it first).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.spawn()
    }

    /// The pid of the running agent.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The directory it pins its maps and links in.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// All that the agent has logged since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        let all = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.log_start..).unwrap_or_default()).into_owned()
    }

    /// Runs an `xvip` command on this node's maps.
    ///
    /// # Errors
    /// When it cannot be run, or does not end in time. An exit status other than 0 is no error here.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--bpffs").arg(&self.bpffs);
        self.ns.output(command, COMMAND)
    }

    /// Runs an `xvip` command and gives what it prints.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn xvip(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?;
        let words = arguments.join(" ");
        ensure!(
            output.status.success(),
            "xvip {words}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).with_context(|| format!("xvip {words}: output"))
    }

    /// Runs an `xvip` command with `-o json` and gives what it prints, parsed.
    ///
    /// # Errors
    /// When it fails or prints something else than JSON.
    pub fn xvip_json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.xvip(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("xvip {}: not JSON: {text}", arguments.join(" ")))
    }

    fn spawn(&mut self) -> Result<()> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .context("opening the agent's log")?;
        self.log_start = usize::try_from(log.metadata()?.len())?;
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = self
            .ns
            .start(command)
            .with_context(|| format!("starting {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("agent.log")
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let skipped = lines.len().saturating_sub(TAIL_LINES);
        format!(
            "the agent's log, from line {}:\n{}",
            skipped + 1,
            lines[skipped..].join("\n")
        )
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.kill9();
    }
}
