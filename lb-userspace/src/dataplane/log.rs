//! Log lines of the kernel programs. They exist only where a level was asked for at load: below it the verifier removes the
//! code, so that a packet pays nothing.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing_log::log::Log;

use super::error::DataplaneError;

/// aya-log's ring buffer. It belongs to one load of the programs.
pub(super) const BUFFER: &str = "AYA_LOGS";

/// What `AYA_LOG_LEVEL` holds when nothing is logged.
pub(super) const OFF: u8 = 0;

/// The number of a level in `AYA_LOG_LEVEL`.
pub(super) fn number(level: tracing::Level) -> u8 {
    let level = match level {
        tracing::Level::ERROR => aya_log::Level::Error,
        tracing::Level::WARN => aya_log::Level::Warn,
        tracing::Level::INFO => aya_log::Level::Info,
        tracing::Level::DEBUG => aya_log::Level::Debug,
        tracing::Level::TRACE => aya_log::Level::Trace,
    };
    level as u8
}

/// The kernel programs' log. Its lines go to the `log` crate, which `tracing_log::LogTracer` carries into `tracing`.
#[derive(Debug)]
pub struct KernelLog(AsyncFd<Reader>);

struct Reader(EbpfLogger<&'static dyn Log>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl std::os::fd::AsRawFd for Reader {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl KernelLog {
    /// Starts reading; inside a tokio runtime. `None` where no program has a log line.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Option<Self>, DataplaneError> {
        if ebpf.map(BUFFER).is_none() {
            return Ok(None);
        }
        let reader = EbpfLogger::init(ebpf)
            .map_err(|error| DataplaneError::Missing(format!("log buffer: {error}")))?;
        // SAFETY: `Reader` owns the ring buffer, and with it the one descriptor it shows, until it is dropped itself.
        let readable = unsafe { AsyncFd::register_with_interest(Reader(reader), Interest::READABLE) }
            .map_err(std::io::Error::from)
            .map_err(DataplaneError::io("watching the kernel programs' log"))?;
        Ok(Some(Self(readable)))
    }

    /// Passes lines on until dropped.
    ///
    /// # Errors
    /// The log buffer cannot be watched any more.
    pub async fn run(mut self) -> std::io::Result<()> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            ready.get_inner_mut().0.flush();
            ready.clear_ready();
        }
    }
}
