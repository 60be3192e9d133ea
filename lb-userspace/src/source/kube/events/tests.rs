//! The publisher against a script of answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::model::ObjectRef;
use crate::source::events::{EventSender, Reason};

/// What an API server answers next.
#[derive(Clone, Copy)]
enum Script {
    Ok,
    Status(u16, &'static str),
    Terminating,
    Broken,
}

use Script::{Broken, Ok as Done, Status, Terminating};

/// A client whose requests are answered by the script in turn, the last line over and over; and what was asked.
fn scripted(script: &[Script]) -> (Client, Arc<Mutex<Vec<String>>>) {
    let script = Arc::new(Mutex::new(VecDeque::from(script.to_vec())));
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
        async move {
            let (head, body) = request.into_parts();
            let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
            let what = match (body["note"].as_str(), body["series"]["count"].as_i64()) {
                (Some(note), _) => note.to_owned(),
                (None, Some(count)) => format!("x{count}"),
                (None, None) => "?".to_owned(),
            };
            let path = head.uri.path();
            let object = path.rsplit('/').next().and_then(|name| name.split('.').next());
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let created = name.split('.').next();
            let object = if head.method == http::Method::POST {
                assert!(path.ends_with("/events"), "{path}");
                created
            } else {
                object
            };
            log.lock()
                .unwrap()
                .push(format!("{} {} {what}", head.method, object.unwrap_or_default()));
            let line = {
                let mut script = script.lock().unwrap();
                let last = script.len() == 1;
                let line = script.front().copied();
                if !last {
                    script.pop_front();
                }
                line
            };
            answer(line.expect("the script has a line"), body)
        }
    });
    (Client::new(service, "default"), asked)
}

fn answer(line: Script, asked: Value) -> Result<Response<Body>, tower::BoxError> {
    let status = |code: u16, reason: &str, causes: Value| {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "reason": reason, "message": reason, "details": { "causes": causes },
        });
        (code, body)
    };
    let (code, body) = match line {
        Done => (200, asked),
        Status(code, reason) => status(code, reason, json!([])),
        Terminating => status(403, "Forbidden", json!([{ "reason": "NamespaceTerminating" }])),
        Broken => return Err("connection reset by peer".into()),
    };
    let response = Response::builder().status(code);
    Ok(response.body(Body::from(serde_json::to_vec(&body)?))?)
}

const EFFORT: Effort = Effort {
    limits: Limits {
        object: limit::Rate {
            burst: 3,
            interval: Duration::from_secs(3600),
        },
        node: limit::Rate {
            burst: 5,
            interval: Duration::from_secs(3600),
        },
        quiet: Duration::ZERO,
        kept: Duration::from_secs(3600),
    },
    tries: 3,
    pause: Duration::ZERO,
    patience: Duration::from_secs(10),
    say_drops: Duration::from_secs(3600),
};

/// Sends events, given as object and note, and returns what the API server was asked.
async fn ask(script: &[Script], events: &[(&str, &str)], effort: Effort) -> Vec<String> {
    let (client, asked) = scripted(script);
    let (sender, queue) = EventSender::channel();
    for (object, note) in events {
        assert!(sender.send(ObjectEvent {
            object: ObjectRef::new("Service", "shop", *object),
            uid: "4f1c".to_owned(),
            reason: Reason::Refused,
            note: (*note).to_owned(),
        }));
    }
    drop(sender);
    let servers = Servers::from_clients(vec![client]);
    Publisher::new(servers, "node-1".to_owned(), effort)
        .run(queue)
        .await;
    let asked = asked.lock().unwrap();
    asked.clone()
}

async fn check(script: &[Script], events: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(ask(script, events, EFFORT).await, expected);
}

#[tokio::test]
async fn an_event_is_created_and_its_repeat_is_a_series() {
    check(
        &[Done],
        &[("web", "a"), ("web", "b"), ("web", "a")],
        &["POST web a", "POST web b", "PATCH web x2"],
    )
    .await;
}

#[tokio::test]
async fn a_repeat_within_the_quiet_time_is_not_sent() {
    let mut effort = EFFORT;
    effort.limits.quiet = Duration::from_secs(600);
    let asked = ask(&[Done], &[("web", "a"), ("web", "a")], effort).await;
    assert_eq!(asked, ["POST web a"]);
}

#[tokio::test]
async fn what_another_node_told_is_told() {
    check(
        &[Status(409, "AlreadyExists"), Done],
        &[("web", "a"), ("web", "a")],
        &["POST web a", "PATCH web x2"],
    )
    .await;
}

#[tokio::test]
async fn an_event_that_expired_is_created_again() {
    check(
        &[Done, Status(404, "NotFound"), Done],
        &[("web", "a"), ("web", "a")],
        &["POST web a", "PATCH web x2", "POST web a"],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_and_given_up() {
    check(
        &[Broken, Status(503, "ServiceUnavailable"), Done],
        &[("web", "a")],
        &["POST web a"; 3],
    )
    .await;
    check(
        &[Broken],
        &[("web", "a"), ("api", "b")],
        &[
            "POST web a",
            "POST web a",
            "POST web a",
            "POST api b",
            "POST api b",
            "POST api b",
        ],
    )
    .await;
}

#[tokio::test]
async fn an_event_given_up_is_created_when_it_happens_again() {
    check(
        &[Broken, Broken, Broken, Done],
        &[("web", "a"), ("web", "a")],
        &["POST web a"; 4],
    )
    .await;
}

#[tokio::test]
async fn what_is_forbidden_or_refused_is_asked_once() {
    for script in [
        Status(403, "Forbidden"),
        Status(422, "Invalid"),
        Status(404, "NotFound"),
        Terminating,
    ] {
        check(
            &[script],
            &[("web", "a"), ("api", "b")],
            &["POST web a", "POST api b"],
        )
        .await;
    }
}

#[tokio::test]
async fn a_flood_stops_at_the_limits() {
    check(
        &[Done],
        &[
            ("web", "1"),
            ("web", "2"),
            ("web", "3"),
            ("web", "4"),
            ("a", "5"),
            ("b", "6"),
            ("c", "7"),
        ],
        &["POST web 1", "POST web 2", "POST web 3", "POST a 5", "POST b 6"],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let client = Client::new(
        tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, tower::BoxError>>()
        }),
        "default",
    );
    let (sender, queue) = EventSender::channel();
    sender.send(ObjectEvent {
        object: ObjectRef::new("Service", "shop", "web"),
        uid: String::new(),
        reason: Reason::Refused,
        note: "a".to_owned(),
    });
    drop(sender);
    let effort = Effort {
        patience: Duration::from_millis(1),
        ..EFFORT
    };
    // Ends, or the test does not.
    let publisher = Publisher::new(Servers::from_clients(vec![client]), "node-1".to_owned(), effort);
    publisher.run(queue).await;
}

#[test]
fn each_answer_means_what_it_says() {
    let failed = |code: u16, reason: &str, is_patch| {
        let status = kube::core::Status::failure(reason, reason).with_code(code);
        read(Err(kube::Error::Api(status.boxed())), is_patch)
    };
    assert_eq!(read(Ok(()), false), Answer::Told);
    assert_eq!(failed(409, "AlreadyExists", false), Answer::Told);
    assert_eq!(failed(404, "NotFound", true), Answer::Gone);
    assert_eq!(failed(404, "NotFound", false), Answer::Pointless);
    assert_eq!(
        failed(403, "Forbidden", true),
        Answer::Forbidden("Forbidden".to_owned())
    );
    assert_eq!(
        failed(422, "Invalid", false),
        Answer::Refused("Invalid".to_owned())
    );
    for code in [401, 429, 500, 503, 504] {
        assert_eq!(
            failed(code, "later", false),
            Answer::Unavailable("later".to_owned())
        );
    }
}
