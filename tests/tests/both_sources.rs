//! A directory and the Kubernetes API give the same maps for the same objects: at the start, as they come one by one, with
//! the Node in another zone, and as they go.
//!
//! The objects are those of `tests/scenarios`. What a directory makes of them, defaults and allocations included, is put into the
//! API-server double, which the Kubernetes source watches over HTTP.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use lab::apiserver::ApiServer;
use lab::programmed::{InMemory, same};
use lab::publish::publish;
use lab::scenario::{HERE, Scenario};
use lb_userspace::source::{Source, dir, kube};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a source may take to tell of a change.
const LIMIT: Duration = Duration::from_secs(30);
/// How old files pretend to be, so that the directory source does not wait for more to be written.
const AGE: Duration = Duration::from_secs(60);

#[test]
fn every_scenario_gives_the_same_maps_from_a_directory_and_from_the_api() {
    let scenarios = Scenario::all().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let moved = runtime
        .block_on(try_join_all(scenarios.iter().map(play)))
        .unwrap_or_else(|error| panic!("{error:#}"));
    runtime.shutdown_background();
    assert!(
        moved.contains(&true),
        "no scenario's maps depend on the zone of the Node"
    );
}

/// Says whether the Node's zone made a difference (S10).
async fn play(scenario: &Scenario) -> Result<bool> {
    let named = |what: &str| format!("{}, {what}", scenario.name());
    let documents = scenario.documents();
    drop(
        Pair::start(&documents)
            .await
            .with_context(|| named("from the start"))?,
    );
    // The Node comes first: without it neither source would be complete.
    let mut pair = Pair::start(&documents[..1])
        .await
        .with_context(|| named("the Node alone"))?;
    for (number, document) in documents.iter().enumerate().skip(1) {
        pair.write(number, document)?;
        pair.settle()
            .await
            .with_context(|| named(&format!("with document {number} added")))?;
    }
    let before = pair.from_directory.lines()?;
    pair.write(0, &documents[0].replace("zone-a", "zone-b"))?;
    pair.settle()
        .await
        .with_context(|| named("with the Node in another zone"))?;
    let moved = pair.from_directory.lines()? != before;
    for number in (1..documents.len()).step_by(2) {
        pair.remove(number)?;
        pair.settle()
            .await
            .with_context(|| named(&format!("with document {number} removed")))?;
    }
    Ok(moved)
}

/// A node for each source, over the same objects.
struct Pair {
    from_directory: InMemory,
    from_api: InMemory,
    directory: dir::Source,
    kube: Source,
    api: ApiServer,
    files: TempDir,
    _stop: DropGuard,
}

impl Pair {
    async fn start(documents: &[&str]) -> Result<Self> {
        let files = tempfile::tempdir()?;
        for path in [manifests(files.path()), state(files.path())] {
            fs::create_dir(path)?;
        }
        for (number, document) in documents.iter().enumerate() {
            write(files.path(), number, document)?;
        }
        let api = ApiServer::start()?;
        publish(&dir::stored(config(files.path())?)?, api.store())?;
        let kubeconfig = files.path().join("kubeconfig");
        api.kubeconfig().write(&kubeconfig)?;
        let access = kube::Access {
            kubeconfig: Some(kubeconfig),
            ..kube::Access::default()
        };
        let cancel = CancellationToken::new();
        let mut pair = Self {
            from_directory: InMemory::new(HERE)?,
            from_api: InMemory::new(HERE)?,
            directory: dir::spawn(config(files.path())?, cancel.clone())?,
            kube: kube::spawn(
                kube::Config {
                    access,
                    node_name: HERE.to_owned(),
                },
                cancel.clone(),
            )?,
            api,
            files,
            _stop: cancel.drop_guard(),
        };
        pair.settle().await?;
        Ok(pair)
    }

    fn write(&self, number: usize, document: &str) -> Result<()> {
        write(self.files.path(), number, document)
    }

    fn remove(&self, number: usize) -> Result<()> {
        Ok(fs::remove_file(file(self.files.path(), number))?)
    }

    /// Waits until the directory source has taken a change in; then the API has to come to the same.
    async fn settle(&mut self) -> Result<()> {
        tokio::time::timeout(LIMIT, self.directory.report.changed())
            .await
            .context("the directory source sees no change")??;
        while let Ok(batch) = self.directory.updates.try_recv() {
            self.from_directory.take(batch)?;
        }
        ensure!(
            self.from_directory.is_complete(),
            "the directory's first lists are not complete"
        );
        publish(&dir::stored(config(self.files.path())?)?, self.api.store())?;
        let wanted = self.from_directory.lines()?;
        let there = |node: &InMemory| {
            let lines = node.lines().map_err(|error| format!("{error:#}"))?;
            same(&wanted, &lines)
        };
        self.from_api
            .follow(&mut self.kube.updates, LIMIT, there)
            .await
            .context("from the API")
    }
}

fn config(files: &Path) -> Result<dir::Config> {
    let ranges = dir::Ranges::new(
        &["10.96.0.0/16".parse()?, "fd00:96::/112".parse()?],
        30_000..=32_767,
        &["198.51.100.0/24".parse()?],
    )?;
    Ok(dir::Config {
        path: manifests(files),
        ranges,
        state_dir: Some(state(files)),
    })
}

fn write(files: &Path, number: usize, document: &str) -> Result<()> {
    let aside = files.join("written-aside");
    fs::write(&aside, document)?;
    File::options()
        .append(true)
        .open(&aside)?
        .set_modified(SystemTime::now() - AGE)?;
    Ok(fs::rename(aside, file(files, number))?)
}

fn file(files: &Path, number: usize) -> std::path::PathBuf {
    manifests(files).join(format!("{number:02}.yaml"))
}

fn manifests(files: &Path) -> std::path::PathBuf {
    files.join("manifests")
}

fn state(files: &Path) -> std::path::PathBuf {
    files.join("state")
}
