//! Going away, falling silent and coming back; where it runs; and the log of what it was asked.

use std::io;
use std::net::SocketAddr;

use lab::apiserver::{ApiServer, Kind};
use lab::netns::Netns;

use crate::client::{End, PATIENCE, get, get_json, names, send, service};

const SERVICES: &str = "/api/v1/services";
const WATCH: &str = "/api/v1/services?watch=true&resourceVersion=1";

#[test]
fn a_server_that_stops_resets_its_connections_and_comes_back_with_its_objects() {
    let server = ApiServer::start().unwrap();
    server.store().apply(service("a"));
    let address = server.address();
    let mut watch = get(&server, WATCH);
    assert_eq!(watch.events(1), ["ADDED a 2"]);

    server.stop();
    assert_eq!(watch.try_line().unwrap_err().0, End::Reset);
    assert_eq!((server.open_connections(), server.open_watches(None)), (0, 0));
    let refused = send(address, "GET /", &[], "").map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    server.store().apply(service("b"));
    server.restart().unwrap();
    assert_eq!(server.address(), address);
    assert_eq!(names(&get_json(&server, SERVICES).1), ["a", "b"]);
}

#[test]
fn a_black_hole_accepts_and_says_nothing_until_it_heals() {
    let server = ApiServer::start().unwrap();
    let mut watch = get(&server, WATCH);
    server.black_hole();
    server.store().apply(service("a"));
    assert!(watch.is_silent());
    std::thread::scope(|scope| {
        let unanswered = scope.spawn(|| get_json(&server, SERVICES));
        lab::poll::until("a connection more", PATIENCE, || match server.accepted() {
            2 => Ok(()),
            other => Err(format!("{other} connections")),
        })
        .unwrap();
        assert!(watch.is_silent());
        assert!(!unanswered.is_finished());
        assert_eq!(server.requests().len(), 1, "it reads nothing");
        server.heal();
        assert_eq!(names(&unanswered.join().unwrap().1), ["a"]);
    });
    assert_eq!(watch.events(1), ["ADDED a 2"]);
}

#[test]
fn a_black_hole_can_be_stopped() {
    let server = ApiServer::start().unwrap();
    let mut watch = get(&server, WATCH);
    server.black_hole();
    server.stop();
    assert_eq!(watch.try_line().unwrap_err().0, End::Reset);
    server.restart().unwrap();
    assert_eq!(get_json(&server, SERVICES).0, 200);
}

#[test]
fn it_runs_inside_a_namespace() {
    let ns = Netns::new("apiserver").unwrap();
    let address: SocketAddr = "127.0.0.1:6443".parse().unwrap();
    let start = || ApiServer::builder().inside(&ns).listen(address).start();
    let server = start().unwrap();
    assert!(start().is_err(), "the port is taken inside");
    let status = ns.run(move || send(address, "GET /api/v1/nodes", &[], "").unwrap().status);
    assert_eq!(status, 200);
    server.stop();
    server.restart().unwrap();
    let again = ns.run(move || send(address, "GET /api/v1/nodes", &[], "").unwrap().status);
    assert_eq!(again, 200);
}

#[test]
fn it_listens_on_several_addresses() {
    let server = ApiServer::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .listen("[::1]:0".parse().unwrap())
        .start()
        .unwrap();
    let [four, six] = server.addresses() else {
        panic!("two addresses");
    };
    assert!(four.is_ipv4() && six.is_ipv6());
    for address in [four, six] {
        let answer = send(*address, "GET /api/v1/nodes", &[], "").unwrap();
        assert_eq!(answer.status, 200, "{address}");
    }
}

#[test]
fn requests_are_logged_as_roles_and_tests_know_them() {
    let server = ApiServer::start().unwrap();
    let headers = [("User-Agent", "xvip/1"), ("Authorization", "Bearer t0")];
    let target = "GET /api/v1/namespaces/t/services?watch=true&labelSelector=%21a%2Fb&sendInitialEvents=true\
                  &resourceVersionMatch=NotOlderThan";
    let _open = send(server.address(), target, &headers, "").unwrap();
    let seen = server
        .wait_requests("the streaming list", PATIENCE, |seen| {
            seen.iter().find(|r| r.kind == Kind::StreamingList).cloned()
        })
        .unwrap();
    assert_eq!(seen.verb, "watch");
    assert_eq!(
        (
            seen.api_group.as_str(),
            seen.resource.as_str(),
            seen.namespace.as_deref()
        ),
        ("", "services", Some("t"))
    );
    assert_eq!((seen.name.as_deref(), seen.subresource.as_deref()), (None, None));
    assert_eq!(seen.param("labelSelector"), Some("!a/b"));
    assert_eq!(seen.user_agent.as_deref(), Some("xvip/1"));
    assert_eq!((seen.token.as_deref(), seen.connection), (Some("t0"), 1));

    server.forget_requests();
    assert_eq!(server.requests(), []);
    let nothing = server.wait_requests("more", std::time::Duration::ZERO, |seen| seen.first().cloned());
    assert!(nothing.is_err());
    get(&server, SERVICES);
    assert_eq!(server.requests()[0].connection, 2);
}
