//! Notices that the manifest directory may have changed.
//!
//! Owns: the kernel's file notifications, and putting them back when the directory was replaced. Must not
//! know: what changed; a scan finds out.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// A burst of changes is over when nothing happened for this long.
const QUIET: Duration = Duration::from_millis(50);
/// A burst that does not end is looked into all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// Watches a directory, or the directory a file is in.
pub(super) struct DirWatch {
    path: PathBuf,
    watcher: RecommendedWatcher,
    events: mpsc::Receiver<()>,
    watched: Option<Identity>,
}

/// Tells a directory from another one of the same path. A file system may give the number of a deleted directory to the next
/// one made, so the time of birth counts too, where it is known.
type Identity = (u64, u64, Option<SystemTime>);

impl DirWatch {
    /// Starts watching. What the kernel refuses to watch is left to the slow rescan.
    pub(super) fn new(path: &Path) -> Result<Self, notify::Error> {
        let path = std::path::absolute(path).map_err(notify::Error::io)?;
        let (sender, events) = mpsc::channel(1);
        let ours = path.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = event.map_or(true, |event| {
                is_change(event.kind) && event.paths.iter().any(|path| path.starts_with(&ours))
            });
            if matters {
                // A full channel already says that something changed.
                let _ = sender.try_send(());
            }
        })?;
        let mut watch = Self {
            path,
            watcher,
            events,
            watched: None,
        };
        if let Some(parent) = watch.path.parent().map(Path::to_owned) {
            // The parent tells when the directory is replaced, or when the single file is.
            watch.watch(&parent);
        }
        watch.renew();
        Ok(watch)
    }

    /// Watches the directory that is there now, if it is another one than before.
    pub(super) fn renew(&mut self) {
        let current = fs::metadata(&self.path)
            .ok()
            .filter(fs::Metadata::is_dir)
            .map(|meta| (meta.dev(), meta.ino(), meta.created().ok()));
        if current == self.watched {
            return;
        }
        if self.watched.take().is_some() {
            // The kernel drops the watch with the directory; this drops what is left of it here.
            let _ = self.watcher.unwatch(&self.path);
        }
        if current.is_some() && self.watch(&self.path.clone()) {
            self.watched = current;
        }
    }

    /// Waits for a burst of changes to begin and to end, but no longer than `limit` for the beginning.
    pub(super) async fn changed(&mut self, limit: Duration) {
        if timeout(limit, self.events.recv()).await.is_err() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let quiet = (Instant::now() + QUIET).min(deadline);
            if timeout_at(quiet, self.events.recv()).await.is_err() {
                return;
            }
        }
    }

    fn watch(&mut self, path: &Path) -> bool {
        match self.watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot watch for changes; looking every few seconds");
                false
            }
        }
    }
}

/// Reading a file is no change; without this every scan would cause the next one.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_made_anew_is_watched_again() {
        const LIMIT: Duration = Duration::from_secs(20);
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("manifests");
        fs::create_dir(&path).unwrap();
        let mut watch = DirWatch::new(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        fs::create_dir(&path).unwrap();
        watch.changed(LIMIT).await;
        watch.renew();
        // What the kernel had still to tell of the replacement.
        while timeout(QUIET * 4, watch.events.recv()).await.is_ok() {}
        fs::write(path.join("a.yaml"), "").unwrap();
        let started = Instant::now();
        watch.changed(LIMIT).await;
        assert!(started.elapsed() < LIMIT, "the file was not noticed");
    }
}
