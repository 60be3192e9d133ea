//! The directory source against real files: following changes, and the verdicts `xvip check` prints.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_userspace::model::Update;
use lb_userspace::source::Outcome;
use lb_userspace::source::dir::{self, Config, Ranges, Source};
use tokio_util::sync::CancellationToken;

/// Longer than any change may take, notifications lost or not.
const DEADLINE: Duration = Duration::from_secs(20);

fn config(path: &Path, state_dir: Option<&Path>) -> Config {
    Config {
        path: path.to_owned(),
        ranges: Ranges::default(),
        state_dir: state_dir.map(Path::to_owned),
    }
}

fn service(name: &str, port: u16) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n")
}

/// The next batch in short: `+web:80`, `-web`, `done`.
async fn next(source: &mut Source) -> Vec<String> {
    let batch = tokio::time::timeout(DEADLINE, source.updates.recv())
        .await
        .expect("a batch before the deadline");
    let words = batch
        .expect("the source runs")
        .into_iter()
        .map(|update| match update {
            Update::ServiceApplied(service) => format!("+{}:{}", service.key.name, service.ports[0].port),
            Update::ServiceDeleted(key) => format!("-{}", key.name),
            Update::InitialListsDone => "done".to_owned(),
            other => format!("{other:?}"),
        });
    words.collect()
}

#[tokio::test]
async fn every_way_to_change_a_directory_is_noticed() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("manifests");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service("a", 80)).unwrap();
    let cancel = CancellationToken::new();
    let mut source = dir::spawn(config(&path, None), cancel.clone()).unwrap();
    assert_eq!(next(&mut source).await, ["+a:80", "done"]);

    // A new file; one written in place; one replaced by a rename, as editors do it.
    fs::write(
        path.join("b.json"),
        "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"b\"}, \
                                    \"spec\": {\"ports\": [{\"port\": 80}]}}",
    )
    .unwrap();
    assert_eq!(next(&mut source).await, ["+b:80"]);
    fs::write(path.join("a.yaml"), service("a", 81)).unwrap();
    assert_eq!(next(&mut source).await, ["+a:81"]);
    fs::write(path.join(".a.yaml.swp"), service("a", 82)).unwrap();
    fs::rename(path.join(".a.yaml.swp"), path.join("a.yaml")).unwrap();
    assert_eq!(next(&mut source).await, ["+a:82"]);

    // A mounted ConfigMap: links through `..data`, which is swapped as a whole.
    fs::create_dir(path.join("..one")).unwrap();
    fs::write(path.join("..one/c.yaml"), service("c", 80)).unwrap();
    symlink("..one", path.join("..data")).unwrap();
    symlink("..data/c.yaml", path.join("c.yaml")).unwrap();
    assert_eq!(next(&mut source).await, ["+c:80"]);
    fs::create_dir(path.join("..two")).unwrap();
    fs::write(path.join("..two/c.yaml"), service("c", 81)).unwrap();
    symlink("..two", path.join("..new")).unwrap();
    fs::rename(path.join("..new"), path.join("..data")).unwrap();
    assert_eq!(next(&mut source).await, ["+c:81"]);

    fs::remove_file(path.join("b.json")).unwrap();
    assert_eq!(next(&mut source).await, ["-b"]);

    // The whole directory goes and another one comes: nothing is deleted on the word of a missing directory.
    fs::rename(&path, parent.path().join("old")).unwrap();
    fs::create_dir(parent.path().join("new")).unwrap();
    fs::write(parent.path().join("new/a.yaml"), service("a", 83)).unwrap();
    fs::rename(parent.path().join("new"), &path).unwrap();
    assert_eq!(next(&mut source).await, ["+a:83", "-c"]);
    fs::write(path.join("d.yaml"), service("d", 80)).unwrap();
    assert_eq!(next(&mut source).await, ["+d:80"]);

    cancel.cancel();
    let end = tokio::time::timeout(DEADLINE, source.updates.recv())
        .await
        .expect("the source ends");
    assert_eq!(end, None);
}

#[tokio::test]
async fn a_broken_edit_is_reported_and_the_last_good_version_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, service("a", 80)).unwrap();
    // A single file can be a source too.
    let mut source = dir::spawn(config(&file, None), CancellationToken::new()).unwrap();
    assert_eq!(next(&mut source).await, ["+a:80", "done"]);
    source.report.mark_unchanged();
    fs::write(&file, service("a", 80).replace("ports", "prots")).unwrap();
    tokio::time::timeout(DEADLINE, source.report.changed())
        .await
        .expect("a report in time")
        .unwrap();
    let text = source.report.borrow_and_update().to_string();
    assert!(
        text.contains(
            "a.yaml:6: Service default/a: refused: spec.prots: unknown field (did you mean ports?)"
        )
    );
    assert!(text.contains("the last good version stays in force"));
    fs::write(&file, service("a", 81)).unwrap();
    assert_eq!(next(&mut source).await, ["+a:81"]);
}

#[tokio::test]
async fn agents_that_share_a_state_directory_agree_and_a_restart_changes_nothing() {
    let manifests = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(manifests.path().join(format!("{name}.yaml")), service(name, 80)).unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut source = dir::spawn(
            config(manifests.path(), Some(state.path())),
            CancellationToken::new(),
        )
        .unwrap();
        let batch = tokio::time::timeout(DEADLINE, source.updates.recv())
            .await
            .expect("a batch in time")
            .unwrap();
        seen.push(batch);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    let saved = fs::read_to_string(state.path().join("allocations.json")).unwrap();
    assert!(saved.contains("\"default/a\""), "{saved}");
}

#[tokio::test]
async fn a_path_that_is_not_there_is_an_error_and_not_an_empty_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = dir::spawn(config(&missing, None), CancellationToken::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing"), "{error}");
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The whole verdict on one text.
fn verdict(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("m.yaml");
    fs::write(&file, text).unwrap();
    let report = dir::check(config(&file, None)).unwrap().to_string();
    report.replace(&format!("{}/", directory.path().display()), "")
}

/// What people copy out of tutorials, and what they should be told.
#[test]
fn check_says_what_would_become_of_every_object() {
    let cases: &[(&str, &[&str])] = &[
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: shop\nspec:\n  selector: {app: shop}\n  ports:\n  - \
             {name: http, protocol: TCP, port: 80, targetPort: 9376}\n  - {name: https, protocol: TCP, port: 443, \
             targetPort: 9377}\n",
            &[
                "m.yaml:1: Service default/shop: accepted: ClusterIP 10.",
                "ports 80/TCP,443/TCP\n",
            ],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  type: NodePort\n  selector: {app: shop}\n  \
             ports:\n  - {port: 80, targetPort: 80, nodePort: 30007}\n",
            &["accepted: NodePort 10.", "; nodePorts 30007/TCP\n"],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  clusterIP: 10.0.171.239\n  type: \
             LoadBalancer\n  ports:\n  - {port: 80}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.127}]}}\n",
            &[
                "m.yaml:5: Service default/shop: refused: spec.clusterIPs: Invalid value: [\"10.0.171.239\"]: failed to \
               allocate IP 10.0.171.239: the provided network does not match the current range\n",
            ],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec:\n  type: LoadBalancer\n  ports:\n  - {port: \
             80}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.127}]}}\n",
            &["accepted: LoadBalancer 10.", "; load balancer 192.0.2.127\n"],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 80}]}\n---\napiVersion: \
             v1\nkind: Endpoints\nmetadata: {name: db}\nsubsets:\n- addresses: [{ip: 192.0.2.42}]\n  ports: [{port: \
             9376}]\n",
            &["m.yaml:6: Endpoints default/db: accepted: 1 endpoint of Service default/db\n"],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {type: ExternalName, externalName: \
             db.example.org}\n",
            &["m.yaml:1: Service default/db: skipped: type ExternalName"],
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: shop}\n",
            &["m.yaml:1: Deployment shop: skipped: "],
        ),
        ("kind: [\n", &["m.yaml:", ": refused: "]),
    ];
    for (text, expected) in cases {
        let verdict = verdict(text);
        for words in *expected {
            assert!(verdict.contains(words), "{words:?} is not in {verdict:?}");
        }
    }
}

#[test]
fn every_example_manifest_is_accepted() {
    let report = dir::check(config(&repository().join("manifests/examples"), None)).unwrap();
    assert_eq!(report.refused(), 0, "{report}");
    assert!(
        report.entries.iter().all(|entry| entry.warnings.is_empty()),
        "{report}"
    );
    let services = report
        .entries
        .iter()
        .filter(|entry| matches!(entry.outcome, Outcome::Service(_)))
        .count();
    assert!(services >= 6, "{report}");
    for word in ["headless", "ExternalName"] {
        assert!(report.to_string().contains(word), "{report}");
    }
}

/// More manifests from elsewhere, where they are at hand: nothing in them may be refused but what is wrong.
#[test]
fn manifests_from_elsewhere_are_accepted_or_refused_with_the_right_words() {
    let elsewhere = repository().join("../shared/manifests");
    let cases: &[(&str, Option<&str>)] = &[
        ("online-boutique.yaml", None),
        ("ingress-nginx-cloud.yaml", None),
        ("ingress-nginx-baremetal.yaml", None),
        ("tutorials/my-service.yaml", None),
        ("tutorials/my-service-manual-endpoints.yaml", None),
        ("tutorials/my-service-nodeport.yaml", None),
        ("tutorials/svc-clusterip.yaml", None),
        ("tutorials/svc-external.yaml", None),
        ("tutorials/svc-nodeport.yaml", None),
        (
            "tutorials/my-service-loadbalancer.yaml",
            Some("the provided network does not match the current range"),
        ),
        (
            "tutorials/svc-local-nodeport.yaml",
            Some("did you mean externalTrafficPolicy?"),
        ),
    ];
    for (file, expected) in cases {
        let path = elsewhere.join(file);
        if !path.exists() {
            continue;
        }
        let report = dir::check(config(&path, None)).unwrap();
        match expected {
            None => assert_eq!(report.refused(), 0, "{report}"),
            Some(words) => {
                assert_eq!(report.refused(), 1, "{report}");
                assert!(report.to_string().contains(words), "{report}");
            }
        }
    }
}
