//! The files of the manifest directory.
//!
//! Owns: which files count, reading those that changed. Must not know: what their objects mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::decode::{self, DecodedFile};

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
/// Far more than a hand-written manifest, far less than memory.
const MAX_BYTES: u64 = 64 << 20;

/// A file that is being written all the time is read after so many looks all the same.
const MAX_DEFERRALS: u32 = 20;

/// A file's objects, or why it could not be read.
pub(super) type Scanned = Result<DecodedFile, String>;

/// The directory (or single file) as it was last seen.
#[derive(Debug)]
pub(super) struct Scanner {
    path: PathBuf,
    /// A file younger than this may be half written: half a Service is a valid one that says something else.
    settle: Duration,
    stamps: BTreeMap<PathBuf, Stamp>,
    files: BTreeMap<PathBuf, Scanned>,
    /// Files left for later, and how often.
    deferred: BTreeMap<PathBuf, u32>,
}

/// What changes whenever a file does; a swapped symlink shows as another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Scanner {
    pub(super) fn new(path: PathBuf, settle: Duration) -> Self {
        Self {
            path,
            settle,
            stamps: BTreeMap::new(),
            files: BTreeMap::new(),
            deferred: BTreeMap::new(),
        }
    }

    /// Whether a file was left for a look in a moment.
    pub(super) fn is_settling(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The files as last seen, in order of their names.
    pub(super) fn files(&self) -> &BTreeMap<PathBuf, Scanned> {
        &self.files
    }

    /// Looks again; says whether anything is different.
    pub(super) fn scan(&mut self) -> io::Result<bool> {
        let mut stamps = BTreeMap::new();
        let mut deferred = BTreeMap::new();
        let mut unreadable = BTreeSet::new();
        let mut changed = false;
        for path in list(&self.path)? {
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // A file that vanished since it was listed is not there; a dangling link never was.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Any other is there, and what it held stays in force.
                Err(error) => {
                    let reason = error.to_string();
                    let said = matches!(self.files.get(&path), Some(Err(said)) if *said == reason);
                    changed |= !said;
                    unreadable.insert(path.clone());
                    self.files.insert(path, Err(reason));
                    continue;
                }
            };
            if !metadata.is_file() {
                continue;
            }
            let stamp = Stamp::of(&metadata);
            let old = self.stamps.get(&path).copied();
            if old == Some(stamp) {
                stamps.insert(path, stamp);
                continue;
            }
            let times = self.deferred.get(&path).copied().unwrap_or_default();
            if times < MAX_DEFERRALS && age(&metadata).is_some_and(|age| age < self.settle) {
                // The old stamp makes the next look find it changed again.
                stamps.extend(old.map(|old| (path.clone(), old)));
                deferred.insert(path, times + 1);
                continue;
            }
            self.files.insert(path.clone(), read(&path, metadata.len()));
            stamps.insert(path, stamp);
            changed = true;
        }
        let known = self.files.len();
        self.files
            .retain(|path, _| stamps.contains_key(path) || unreadable.contains(path));
        changed |= self.files.len() != known;
        self.stamps = stamps;
        self.deferred = deferred;
        Ok(changed)
    }
}

/// How long ago the file was written; nothing when its time is in the future.
fn age(metadata: &Metadata) -> Option<Duration> {
    SystemTime::now().duration_since(metadata.modified().ok()?).ok()
}

fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if is_manifest(&file) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Manifests by extension; hidden files and what editors leave behind do not count.
fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().and_then(|extension| extension.to_str());
    !name.starts_with(['.', '#']) && extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn read(path: &Path, size: u64) -> Scanned {
    if size > MAX_BYTES {
        return Err(format!("the file is larger than {} MiB", MAX_BYTES >> 20));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|error| format!("the file is not text: {error}"))?;
    Ok(decode::file(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_manifests_count() {
        let cases = [
            ("a.yaml", true),
            ("a.yml", true),
            ("a.json", true),
            (".a.yaml", false),
            ("#a.yaml", false),
            ("a.yaml~", false),
            ("a.yaml.swp", false),
            ("a.txt", false),
            ("..data", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_manifest(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_scan_notices_new_changed_and_deleted_files_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        let mut scanner = Scanner::new(directory.path().to_owned(), Duration::ZERO);
        assert!(!scanner.scan().unwrap());
        fs::write(&file, "kind: A").unwrap();
        assert!(scanner.scan().unwrap());
        assert!(!scanner.scan().unwrap());
        let fresh = directory.path().join(".fresh");
        fs::write(&fresh, "kind: B").unwrap();
        fs::rename(&fresh, &file).unwrap();
        assert!(scanner.scan().unwrap());
        fs::write(directory.path().join("b.yaml"), [0xff]).unwrap();
        assert!(scanner.scan().unwrap());
        assert!(scanner.files()[&directory.path().join("b.yaml")].is_err());
        fs::remove_file(&file).unwrap();
        assert!(scanner.scan().unwrap());
        assert_eq!(scanner.files().len(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_is_broken_and_not_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "kind: A").unwrap();
        let mut scanner = Scanner::new(directory.path().to_owned(), Duration::ZERO);
        assert!(scanner.scan().unwrap());
        // A link to itself: the error is neither "not found" nor a matter of permissions, which root passes.
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("a.yaml", &file).unwrap();
        assert!(scanner.scan().unwrap());
        assert!(scanner.files()[&file].is_err());
        assert!(!scanner.scan().unwrap(), "nothing new");
        fs::remove_file(&file).unwrap();
        assert!(scanner.scan().unwrap());
        assert!(scanner.files().is_empty());
    }

    #[test]
    fn a_file_that_is_being_written_is_left_for_later() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        let mut scanner = Scanner::new(directory.path().to_owned(), Duration::from_secs(3600));
        let write = |text: &str, age: u64| {
            fs::write(&file, text).unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            fs::File::options()
                .append(true)
                .open(&file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        write("kind: A", 7200);
        assert!(scanner.scan().unwrap() && !scanner.is_settling());
        write("", 0);
        assert!(!scanner.scan().unwrap() && scanner.is_settling());
        assert_eq!(
            scanner.files()[&file].as_ref().unwrap().objects.len(),
            1,
            "the old content still counts"
        );
        write("kind: A\n---\nkind: B", 7200);
        assert!(scanner.scan().unwrap() && !scanner.is_settling());
        write("kind: A", 0);
        let looks = (0..).take_while(|_| !scanner.scan().unwrap()).take(100).count();
        assert_eq!(looks, 20, "a file that never settles is read in the end");
    }
}
