//! The loop against a script: a test sees every request and plays the API server, over a clock that only moves while everybody
//! waits.

mod following;
mod gate;
mod listing;
mod objects;
mod setbacks;

use std::time::Duration;

use futures::channel::mpsc as body;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tower::BoxError;

use super::access::Servers;
use super::gate::Delivery;
use super::resource::Resource;
use super::watch::Watch;
use crate::model::Update;
use crate::source::events::{EventSender, ObjectEvent};

type Piece = Result<Frame<Bytes>, BoxError>;
type Answer = Result<Response<StreamBody<body::UnboundedReceiver<Piece>>>, BoxError>;

/// The one who plays the API servers, and hears what the watch of Services makes of it.
struct Script {
    requests: mpsc::UnboundedReceiver<Asked>,
    deliveries: mpsc::Receiver<Delivery>,
    events: mpsc::Receiver<ObjectEvent>,
    /// Shared with other watches, which the test is.
    servers: Servers,
    /// When the last request came.
    last: Instant,
}

/// A request that waits for its answer.
struct Asked {
    /// What is asked for, in a few words.
    what: String,
    server: usize,
    reply: oneshot::Sender<Answer>,
}

/// A body that is being sent.
struct Sending(body::UnboundedSender<Piece>);

impl Script {
    /// A watch of Services has begun, with so many API servers.
    fn new(servers: usize) -> Self {
        let (asked, requests) = mpsc::unbounded_channel();
        let client = |server| {
            let asked: mpsc::UnboundedSender<Asked> = asked.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let (reply, answer) = oneshot::channel();
                let what = describe(request.uri());
                let sent = asked.send(Asked { what, server, reply });
                async move {
                    sent.map_err(|_| "the test is over")?;
                    answer.await.unwrap_or_else(|_| Err("the test dropped it".into()))
                }
            });
            Client::new(service, "default")
        };
        let servers = Servers::from_clients((0..servers).map(client).collect());
        let (events, heard) = EventSender::channel();
        let (deliveries, delivered) = mpsc::channel(16);
        let watch = Watch::new(Resource::services(), servers.clone(), events, deliveries);
        tokio::spawn(watch.run());
        Self {
            requests,
            deliveries: delivered,
            events: heard,
            servers,
            last: Instant::now(),
        }
    }

    /// The next request, which must be this one; and how long after the one before it came.
    #[track_caller]
    fn asked(&mut self, expected: &str) -> impl Future<Output = (Asked, Duration)> {
        let caller = std::panic::Location::caller();
        async move {
            let asked = timeout(Duration::from_secs(3_600), self.requests.recv()).await;
            let asked = asked.expect("a request within an hour").expect("the watch runs");
            assert_eq!(asked.what, expected, "at {caller}");
            let gap = self.last.elapsed();
            self.last = Instant::now();
            (asked, gap)
        }
    }

    /// The next delivery in words: `+web -api`, and `.` where the first list is complete.
    async fn delivered(&mut self) -> String {
        let delivery = timeout(Duration::from_secs(3_600), self.deliveries.recv()).await;
        let delivery = delivery
            .expect("a delivery within an hour")
            .expect("the watch runs");
        let mut words: Vec<String> = delivery.updates.iter().map(name).collect();
        words.extend(delivery.listed.then(|| ".".to_owned()));
        words.join(" ")
    }

    /// Nothing more was delivered.
    #[track_caller]
    fn delivered_nothing(&mut self) {
        assert!(self.deliveries.try_recv().is_err(), "there is more");
    }

    /// Answers a streaming list with these objects and goes on watching.
    async fn listed(&mut self, version: u32, objects: &[Value]) -> Sending {
        let (asked, _) = self.asked("stream").await;
        let mut stream = asked.stream();
        for object in objects {
            stream.event("ADDED", object);
        }
        stream.complete(version);
        self.delivered().await;
        stream
    }
}

impl Asked {
    /// Answers whole.
    fn answer(self, status: u16, body: &Value) {
        self.answer_with(status, &[], body);
    }

    fn answer_with(self, status: u16, headers: &[(&str, &str)], body: &Value) {
        let (mut sending, receiver) = sending();
        sending.raw(&body.to_string());
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let _ = self
            .reply
            .send(Ok(response.body(StreamBody::new(receiver)).unwrap()));
    }

    /// Answers with a list of this version.
    fn list(self, version: u32, objects: &[Value]) {
        self.page(version, objects, "");
    }

    fn page(self, version: u32, objects: &[Value], token: &str) {
        let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
        self.answer(
            200,
            &json!({"kind": "ServiceList", "metadata": metadata, "items": objects}),
        );
    }

    /// Begins a stream.
    fn stream(self) -> Sending {
        let (sending, receiver) = sending();
        let _ = self.reply.send(Ok(Response::new(StreamBody::new(receiver))));
        sending
    }

    /// Refuses in the API server's form.
    fn refuse(self, code: u16, reason: &str) {
        self.answer(code, &status(code, reason));
    }

    /// Nobody is there.
    fn fail(self) {
        let _ = self.reply.send(Err("connection refused".into()));
    }
}

impl Sending {
    fn raw(&mut self, text: &str) {
        let piece = Bytes::from(text.to_owned());
        let _ = self.0.unbounded_send(Ok(Frame::data(piece)));
    }

    fn event(&mut self, event_type: &str, object: &Value) {
        self.raw(&format!("{}\n", json!({"type": event_type, "object": object})));
    }

    fn bookmark(&mut self, version: u32) {
        self.event(
            "BOOKMARK",
            &json!({"metadata": {"resourceVersion": version.to_string()}}),
        );
    }

    /// The end of the initial events.
    fn complete(&mut self, version: u32) {
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
        self.event("BOOKMARK", &json!({"metadata": metadata}));
    }

    fn error(&mut self, code: u16, reason: &str) {
        self.event("ERROR", &status(code, reason));
    }

    /// The connection breaks.
    fn cut(self) {
        let _ = self.0.unbounded_send(Err("connection reset by peer".into()));
    }

    /// The server ends it in order.
    fn end(self) {
        drop(self);
    }
}

fn sending() -> (Sending, body::UnboundedReceiver<Piece>) {
    let (sender, receiver) = body::unbounded();
    (Sending(sender), receiver)
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code})
}

/// A Service of this name and version.
fn service(name: &str, version: u32) -> Value {
    json!({
        "metadata": {
            "namespace": "n", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
        },
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.5", "ports": [{"port": 80}]},
    })
}

/// `service`, with these fields laid over.
fn changed(mut service: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    service.pointer_mut(parent).expect("a place")[field] = value;
    service
}

fn name(update: &Update) -> String {
    match update {
        Update::ServiceApplied(service) => format!("+{}", service.key.name),
        Update::ServiceDeleted(key) => format!("-{}", key.name),
        other => panic!("{other:?}"),
    }
}

/// What a URL asks for: `stream`, `cache`, `pages`, `whole`, `watch`, with the version or the token where there is one.
fn describe(uri: &http::Uri) -> String {
    assert_eq!(uri.path(), "/api/v1/services");
    let of = |key: &str| {
        let pairs = uri.query().unwrap_or_default().split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|pair| pair.0 == key)
            .map(|pair| pair.1)
    };
    let version = of("resourceVersion");
    let (way, at) = match (of("watch"), of("sendInitialEvents"), of("limit"), version) {
        (Some(_), Some(_), _, _) => ("stream", version),
        (Some(_), None, _, _) => ("watch", version),
        (None, _, Some(_), _) => ("pages", of("continue")),
        (None, _, None, Some(_)) => ("cache", version),
        (None, _, None, None) => ("whole", None),
    };
    format!("{way} {}", at.unwrap_or_default()).trim_end().to_owned()
}
