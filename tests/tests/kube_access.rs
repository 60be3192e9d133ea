//! The way to the API servers, over real TCP and TLS: tokens and certificates that are replaced, servers that are gone, strangers, or
//! silent.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, WatchParams};
use lab::apiserver::{ApiServer, Authority};
use lab::link::veth;
use lab::netns::Netns;
use lb_userspace::source::kube::{Access, Servers};
use tempfile::TempDir;

/// Longer than any of these may take, on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(20);

/// A directory with a kubeconfig.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The way to these servers with the kubeconfig here; none means the kubeconfig's.
    fn access(&self, servers: &[&ApiServer]) -> Access {
        Access {
            kubeconfig: Some(self.path("config")),
            servers: servers
                .iter()
                .map(|server| server.url().parse().unwrap())
                .collect(),
        }
    }
}

/// Asks the server in use for something.
async fn ask(servers: &Servers) -> Result<(), kube::Error> {
    let services: Api<Service> = Api::all(servers.current().1);
    let some = ListParams::default().limit(1);
    let answer = tokio::time::timeout(LIMIT, services.list(&some)).await;
    answer.expect("an answer or an error in time").map(drop)
}

/// An error and its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

#[tokio::test]
async fn a_token_that_was_replaced_is_used_at_once() {
    let server = ApiServer::builder()
        .tls(&Authority::new().unwrap())
        .tokens(["old"])
        .start()
        .unwrap();
    let home = Home::new();
    let token = home.path("token");
    fs::write(&token, "old\n").unwrap();
    server
        .kubeconfig()
        .token_file(&token)
        .write(&home.path("config"))
        .unwrap();
    let servers = Servers::connect(&home.access(&[])).unwrap();
    ask(&servers).await.unwrap();

    server.accept_tokens(["new"]);
    assert!(matches!(ask(&servers).await, Err(kube::Error::Api(status)) if status.code == 401));
    fs::write(&token, "new\n").unwrap();
    ask(&servers).await.unwrap();

    let requests = server.requests();
    assert_eq!(requests[0].token.as_deref(), Some("old"));
    assert_eq!(requests[2].token.as_deref(), Some("new"));
    assert!(requests[0].user_agent.as_ref().unwrap().starts_with("xvip/"));
    assert_eq!(server.accepted(), 1, "the connection is kept");
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_until_the_kubeconfig_names_it() {
    let server = ApiServer::builder()
        .tls(&Authority::new().unwrap())
        .start()
        .unwrap();
    let home = Home::new();
    let stranger = server.kubeconfig().ca(&Authority::new().unwrap().pem());
    stranger.write(&home.path("config")).unwrap();
    let servers = Servers::connect(&home.access(&[])).unwrap();
    let refusal = words(&ask(&servers).await.unwrap_err());
    assert!(refusal.contains("invalid peer certificate: "), "{refusal}");
    assert!(server.requests().is_empty());

    server.kubeconfig().write(&home.path("config")).unwrap();
    assert!(servers.failed(servers.current().0), "there is no other server");
    ask(&servers).await.unwrap();
}

#[tokio::test]
async fn the_next_server_is_used_when_one_is_gone() {
    let authority = Authority::new().unwrap();
    let start = || ApiServer::builder().tls(&authority).start().unwrap();
    let pair = [start(), start()];
    let home = Home::new();
    // The kubeconfig's own server is not asked.
    pair[0].kubeconfig().write(&home.path("config")).unwrap();
    let servers = Servers::connect(&home.access(&[&pair[0], &pair[1]])).unwrap();
    let (id, _) = servers.current();
    let (used, other) = match servers.name(id) == format!("{}/", pair[0].url()) {
        true => (&pair[0], &pair[1]),
        false => (&pair[1], &pair[0]),
    };
    ask(&servers).await.unwrap();
    assert_eq!((used.requests().len(), other.requests().len()), (1, 0));

    used.stop();
    assert!(matches!(
        ask(&servers).await,
        Err(kube::Error::Service(_) | kube::Error::HyperError(_))
    ));
    assert!(!servers.failed(id), "there is another one");
    ask(&servers).await.unwrap();
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn agents_spread_over_the_servers() {
    let authority = Authority::new().unwrap();
    let start = || ApiServer::builder().tls(&authority).start().unwrap();
    let pair = [start(), start()];
    let home = Home::new();
    pair[0].kubeconfig().write(&home.path("config")).unwrap();
    let access = home.access(&[&pair[0], &pair[1]]);
    let first = |_| {
        let servers = Servers::connect(&access).unwrap();
        servers.name(servers.current().0).to_owned()
    };
    // All the same by chance: once in 2^63 runs.
    let chosen: std::collections::BTreeSet<String> = (0..64).map(first).collect();
    assert_eq!(chosen.len(), 2, "{chosen:?}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let server = ApiServer::builder()
        .tls(&Authority::new().unwrap())
        .start()
        .unwrap();
    server.black_hole();
    let home = Home::new();
    server.kubeconfig().write(&home.path("config")).unwrap();
    let servers = Servers::connect(&home.access(&[])).unwrap();
    let asked = Instant::now();
    let refusal = words(&ask(&servers).await.unwrap_err());
    assert!(refusal.contains("no connection within 5 s"), "{refusal}");
    assert!(asked.elapsed() >= Duration::from_secs(5));
}

/// A watch is silent for minutes, so silence alone says nothing: TCP asks.
#[test]
fn a_watch_ends_when_its_server_has_died_without_a_word() {
    let (far, near) = (Netns::new("api").unwrap(), Netns::new("node").unwrap());
    let (there, here) = veth((&far, "eth0"), (&near, "eth0")).unwrap();
    there.add_address("192.0.2.1/24".parse().unwrap()).unwrap();
    here.add_address("192.0.2.2/24".parse().unwrap()).unwrap();
    there.up().unwrap();
    here.up().unwrap();
    here.wait_running().unwrap();
    let server = ApiServer::builder()
        .inside(&far)
        .listen("192.0.2.1:6443".parse().unwrap())
        .tls(&Authority::new().unwrap())
        .start()
        .unwrap();
    let home = Home::new();
    server.kubeconfig().write(&home.path("config")).unwrap();
    let access = home.access(&[]);

    let silent = near.block_on(async move {
        let servers = Servers::connect(&access).unwrap();
        let services: Api<Service> = Api::all(servers.current().1);
        let mut watch = Box::pin(services.watch(&WatchParams::default(), "0").await.unwrap());
        there.down().unwrap();
        let since = Instant::now();
        let end = tokio::time::timeout(Duration::from_secs(60), watch.try_next()).await;
        let end = end.expect("the watch ends");
        assert!(!matches!(end, Ok(Some(_))), "{end:?}");
        since.elapsed()
    });
    assert!(
        (20..45).contains(&silent.as_secs()),
        "noticed after {silent:?} instead of about 30 s"
    );
}
