//! Each fault has its effect on the wire, and no other.

use std::time::{Duration, Instant};

use http::{StatusCode, header};
use lab::apiserver::{ApiServer, Cut, Fault, Kind, Resource, Which};

use crate::client::{Answer, End, PATIENCE, get, get_json, names, send, service};

const SERVICES: &str = "/api/v1/services";
const WATCH: &str = "/api/v1/services?watch=true&resourceVersion=1";

#[test]
fn the_next_requests_that_fit_get_the_answer_given_and_later_ones_the_right_one() {
    let server = ApiServer::start().unwrap();
    let which = Which::any().kind(Kind::List).resource(Resource::Services);
    server.faults().next(2, which, Fault::too_many_requests(7));

    assert_eq!(get_json(&server, "/api/v1/nodes").0, 200, "another resource");
    assert_eq!(get(&server, WATCH).status, 200, "another kind");
    for left in [1, 0] {
        let mut refused = get(&server, SERVICES);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("retry-after"), Some("7"));
        assert!(refused.body().0.contains("Too many requests"));
        assert_eq!(server.faults().left(), left);
    }
    assert_eq!(get_json(&server, SERVICES).0, 200);
    assert_eq!(server.requests().len(), 5, "failed requests are logged too");
}

#[test]
fn a_given_answer_has_its_own_body_and_headers() {
    let server = ApiServer::start().unwrap();
    let fault = Fault::Answer {
        status: StatusCode::BAD_GATEWAY,
        headers: vec![(header::CONTENT_TYPE, "text/html".parse().unwrap())],
        body: "<h1>no</h1>".to_owned(),
    };
    server.faults().always(Which::any(), fault);
    for _ in 0..2 {
        let mut answer = get(&server, SERVICES);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (502, Some("text/html"))
        );
        assert_eq!(answer.body(), ("<h1>no</h1>".to_owned(), End::Orderly));
    }
    server.faults().clear();
    assert_eq!(get(&server, SERVICES).status, 200);
    server
        .faults()
        .next(1, Which::any(), Fault::status(StatusCode::FORBIDDEN));
    assert_eq!(get(&server, SERVICES).status, 403);
}

#[test]
fn a_delayed_answer_is_right_and_late() {
    let server = ApiServer::start().unwrap();
    let delay = Duration::from_millis(200);
    server.faults().next(1, Which::any(), Fault::Delay(delay));
    let asked = Instant::now();
    assert_eq!(get_json(&server, SERVICES).0, 200);
    assert!(asked.elapsed() >= delay);
}

#[test]
fn a_body_trickles() {
    let server = ApiServer::start().unwrap();
    server.store().apply(service("a"));
    let (_, whole) = get_json(&server, SERVICES);
    let pieces = u32::try_from(whole.to_string().len().div_ceil(50)).unwrap();
    let pause = Duration::from_millis(10);
    server
        .faults()
        .next(1, Which::any(), Fault::Trickle { piece: 50, pause });
    let asked = Instant::now();
    let mut answer = get(&server, SERVICES);
    let (body, end) = answer.body();
    assert_eq!((body, end), (whole.to_string(), End::Orderly));
    assert!(asked.elapsed() >= pause * pieces, "{pieces} pieces");
}

#[test]
fn a_watch_trickles_too() {
    let server = ApiServer::start().unwrap();
    let pause = Duration::from_millis(2);
    server.faults().next(
        1,
        Which::any().kind(Kind::Watch),
        Fault::Trickle { piece: 9, pause },
    );
    let mut watch = get(&server, WATCH);
    for name in ["a", "b"] {
        server.store().apply(service(name));
    }
    assert_eq!(watch.events(2), ["ADDED a 2", "ADDED b 3"]);
}

#[test]
fn an_unanswered_request_hangs_until_its_connection_is_reset() {
    let server = ApiServer::start().unwrap();
    server.faults().next(1, Which::any(), Fault::Silence);
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| send(server.address(), "GET /api/v1/nodes", &[], "").map(|_| ()));
        server
            .wait_requests("it", PATIENCE, |seen| seen.first().cloned())
            .unwrap();
        assert_eq!(get_json(&server, SERVICES).0, 200, "others are answered");
        assert!(!hanging.is_finished());
        server.reset_connections();
        let error = hanging.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_request_is_met_by_a_reset() {
    let server = ApiServer::start().unwrap();
    server.faults().next(1, Which::any(), Fault::Reset);
    let error = send(server.address(), "GET /api/v1/nodes", &[], "")
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(get_json(&server, "/api/v1/nodes").0, 200);
}

fn watching(server: &ApiServer) -> Answer {
    let mut watch = get(server, WATCH);
    server.store().apply(service("a"));
    assert_eq!(watch.events(1), ["ADDED a 2"]);
    watch
}

#[test]
fn watches_are_cut_in_three_ways() {
    for (cut, ended) in [
        (Cut::End, End::Orderly),
        (Cut::Truncate, End::Cut),
        (Cut::Reset, End::Reset),
    ] {
        let server = ApiServer::start().unwrap();
        let mut watch = watching(&server);
        assert_eq!(server.cut_watches(Resource::Nodes, cut), 0);
        assert_eq!(server.cut_watches(Resource::Services, cut), 1);
        let (end, part) = watch.try_line().unwrap_err();
        assert_eq!(end, ended, "{cut:?}");
        assert_eq!(!part.is_empty(), cut == Cut::Truncate, "{cut:?}: {part}");
        server.wait_watches(None, 0, PATIENCE).unwrap();
        assert_eq!(names(&get_json(&server, SERVICES).1), ["a"], "the server is well");
    }
}

#[test]
fn a_watch_says_whatever_it_is_told_to_and_goes_on() {
    let server = ApiServer::start().unwrap();
    let mut watch = watching(&server);
    assert_eq!(
        server.say(None, "not JSON\n{\"type\":\"ADDED\",\"object\":7}\n"),
        1
    );
    server.store().apply(service("b"));
    assert_eq!(watch.line(), "not JSON");
    assert_eq!(watch.event()["object"], 7);
    assert_eq!(watch.events(1), ["ADDED b 3"]);
}

#[test]
fn tokens_are_asked_for_and_replaced() {
    let server = ApiServer::builder().tokens(["old"]).start().unwrap();
    let asked = |headers: &[(&str, &str)]| {
        send(server.address(), "GET /api/v1/nodes", headers, "")
            .unwrap()
            .json()
    };
    let (status, refused) = asked(&[]);
    assert_eq!((status, refused["reason"].as_str()), (401, Some("Unauthorized")));
    let bearer = |token| [("Authorization", token)];
    assert_eq!(asked(&bearer("Bearer old")).0, 200);
    server.accept_tokens(["new"]);
    assert_eq!(asked(&bearer("Bearer old")).0, 401);
    assert_eq!(asked(&bearer("Bearer new")).0, 200);
}
