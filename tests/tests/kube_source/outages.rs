//! Servers that go, come back, lag behind, or ask for patience.

use std::time::{Duration, Instant};

use http::StatusCode;
use lab::apiserver::{ApiServer, Cut, Fault, Kind, Resource, Which};

use crate::watched::{LIMIT, Watched, asked, service, small_cluster};

#[test]
fn a_server_that_is_not_there_yet_is_waited_for() {
    let server = small_cluster();
    server.stop();
    let mut watched = Watched::new(&[&server]);
    watched.watch_for(Duration::from_secs(2), |_| false);
    server.restart().unwrap();
    watched.wait("the first lists", |watched| watched.done);
}

#[test]
fn a_server_that_goes_and_comes_back_is_followed_from_where_it_was() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    server.stop();
    server.store().apply(service("web", 86));
    watched.watch_for(Duration::from_secs(1), |_| false);
    server.restart().unwrap();
    watched.wait("the change", |watched| watched.port("web") == Some(86));
    let lists = asked(&server, Resource::Services)
        .iter()
        .filter(|line| line.starts_with("stream"))
        .count();
    assert_eq!(lists, 1);
    assert_eq!(watched.services.len(), 2, "nothing was removed");
}

#[test]
fn another_server_takes_over() {
    let first = small_cluster();
    let second = ApiServer::builder().store(first.store()).start().unwrap();
    second.stop();
    let mut watched = Watched::new(&[&first, &second]);
    watched.wait("the first lists", |watched| watched.done);
    second.restart().unwrap();
    first.stop();
    first.store().apply(service("web", 86));
    watched.wait("the change", |watched| watched.port("web") == Some(86));
    assert!(
        asked(&second, Resource::Services)[0].starts_with("watch "),
        "from where it was"
    );
}

/// The second server's cache is behind what the first one told, and a list is needed.
#[test]
fn a_cache_that_lags_behind_never_takes_us_back() {
    let first = small_cluster();
    let second = ApiServer::builder().store(first.store()).start().unwrap();
    second.freeze_cache();
    second.stop();
    let mut watched = Watched::new(&[&first, &second]);
    watched.wait("the first lists", |watched| watched.done);
    first.store().apply(service("web", 86));
    first.store().delete(Resource::Services, Some("shop"), "api");
    watched.wait("the changes", |watched| {
        watched.port("web") == Some(86) && watched.services.len() == 1
    });
    let gone = Fault::status(StatusCode::GONE);
    second.faults().next(3, Which::any().kind(Kind::Watch), gone);
    second.restart().unwrap();
    first.stop();
    second
        .wait_requests("a list", LIMIT, |_| {
            asked(&second, Resource::Services)
                .iter()
                .any(|line| line.starts_with("stream "))
                .then_some(())
        })
        .unwrap();
    watched.watch_for(Duration::from_secs(3), |watched| {
        watched.port("web") == Some(86) && watched.services.len() == 1
    });
    second.thaw_cache();
    first.store().apply(service("web", 87));
    watched.wait("what is new", |watched| watched.port("web") == Some(87));
    assert_eq!(watched.services.len(), 1);
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let server = small_cluster();
    let busy = Fault::too_many_requests(3);
    server
        .faults()
        .next(1, Which::any().resource(Resource::Services), busy);
    // Before the request, however late it is seen.
    let began = Instant::now();
    let mut watched = Watched::new(&[&server]);
    watched.wait("the first lists", |watched| watched.done);
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(asked(&server, Resource::Services).len(), 2);
}

#[test]
fn a_server_that_fails_for_a_while_is_asked_less_and_less() {
    let server = small_cluster();
    let which = Which::any().resource(Resource::Services);
    server
        .faults()
        .always(which, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    let mut watched = Watched::new(&[&server]);
    watched.watch_for(Duration::from_secs(5), |watched| !watched.done);
    let asked = asked(&server, Resource::Services).len();
    assert!((2..=8).contains(&asked), "{asked} requests in five seconds");
    server.faults().clear();
    watched.wait("the first lists", |watched| watched.done);
}

/// The agent is told 401, and finds the new ones by itself.
#[test]
fn credentials_in_a_kubeconfig_that_is_written_anew_are_used() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    server.wait_watches(Resource::Services, 1, LIMIT).unwrap();
    server.accept_tokens(["new"]);
    server.cut_watches(Resource::Services, Cut::End);
    server
        .wait_requests("a request that is refused", LIMIT, |_| {
            (asked(&server, Resource::Services).len() > 2).then_some(())
        })
        .unwrap();
    server
        .kubeconfig()
        .token("new")
        .write(&watched.kubeconfig())
        .unwrap();
    server.store().apply(service("web", 86));
    watched.wait("the change", |watched| watched.port("web") == Some(86));
}
