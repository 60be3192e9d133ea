//! From an HTTP request to its answer: logged, perhaps met by a fault, authenticated, and handed to whom it is for.
//!
//! Must not know: sockets.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream;
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde_json::Value;
use tokio::time::sleep;

use super::cache::Cache;
use super::faults::{Fault, Faults};
use super::journal::Journal;
use super::list::list;
use super::options::ListOptions;
use super::refusal::Refusal;
use super::request::{Kind, Request};
use super::resource::Resource;
use super::selector::Filter;
use super::store::Store;
use super::watch::{Source, Watch};
use super::watches::Watches;
use super::wire::Ending;
use super::write::write;

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Response<Body>;

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Core {
    pub store: Store,
    pub cache: Arc<Cache>,
    pub faults: Faults,
    pub journal: Journal,
    pub watches: Watches,
    /// Accepted bearer tokens; `None` lets everybody in.
    pub tokens: Mutex<Option<BTreeSet<String>>>,
    /// Whether there are streaming lists.
    pub watch_list: AtomicBool,
}

impl Core {
    pub(super) fn new(store: Store, patience: Duration) -> Self {
        Self {
            cache: Arc::new(Cache::new(store.clone(), patience)),
            store,
            faults: Faults::default(),
            journal: Journal::default(),
            watches: Watches::default(),
            tokens: Mutex::default(),
            watch_list: AtomicBool::new(true),
        }
    }

    /// Answers one request of a connection. An error ends the connection.
    pub(super) async fn answer(
        &self,
        connection: u64,
        ending: &Ending,
        http: http::Request<Incoming>,
    ) -> io::Result<Answer> {
        let (parts, body) = http.into_parts();
        let request = Request::parse(connection, &parts.method, &parts.uri, &parts.headers);
        self.journal.note(request.clone());

        let mut trickle = None;
        match self.faults.meet(&request) {
            None => {}
            Some(Fault::Answer {
                status,
                headers,
                body,
            }) => {
                let mut answer = respond(status, full(body));
                for (name, value) in headers {
                    answer.headers_mut().insert(name, value);
                }
                return Ok(answer);
            }
            Some(Fault::Delay(delay)) => sleep(delay).await,
            Some(Fault::Trickle { piece, pause }) => trickle = Some((piece, pause)),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Reset) => {
                ending.reset();
                std::future::pending().await
            }
        }

        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let answer = match self.serve(&request, content_type, body, ending).await {
            Ok(answer) => answer,
            Err(refusal) => refuse(&refusal),
        };
        Ok(match trickle {
            None => answer,
            Some((piece, pause)) => answer.map(|body| trickled(body, piece, pause)),
        })
    }

    async fn serve(
        &self,
        request: &Request,
        content_type: &str,
        body: Incoming,
        ending: &Ending,
    ) -> Result<Answer, Refusal> {
        self.authenticate(request)?;
        let resource = request
            .served()
            .filter(|_| request.subresource.is_none())
            .ok_or_else(Refusal::no_page)?;
        match request.kind {
            Kind::Get => self.get(resource, request),
            Kind::List => {
                let (filter, options) = self.selection(resource, request)?;
                let list = list(&self.store, &self.cache, resource, &filter, &options).await?;
                Ok(json_answer(StatusCode::OK, &list))
            }
            Kind::Watch | Kind::StreamingList => {
                let (filter, options) = self.selection(resource, request)?;
                Ok(self.watch(resource, filter, options, ending))
            }
            Kind::Create | Kind::Patch => {
                let body = body
                    .collect()
                    .await
                    .map_err(|error| Refusal::bad_request(error.to_string()))?
                    .to_bytes();
                let (code, object) = write(&self.store, resource, request, content_type, &body)?;
                Ok(json_answer(status(code), &object))
            }
            Kind::Other => Err(Refusal::method_not_allowed()),
        }
    }

    fn authenticate(&self, request: &Request) -> Result<(), Refusal> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*tokens, &request.token) {
            (None, _) => Ok(()),
            (Some(accepted), Some(token)) if accepted.contains(token) => Ok(()),
            (Some(_), _) => Err(Refusal::unauthorized()),
        }
    }

    fn selection(&self, resource: Resource, request: &Request) -> Result<(Filter, ListOptions), Refusal> {
        let options = ListOptions::parse(request, self.watch_list.load(Ordering::Relaxed))?;
        let selector = |name| request.param(name).unwrap_or_default();
        let filter = Filter::parse(
            resource,
            request.namespace.as_deref(),
            selector("labelSelector"),
            selector("fieldSelector"),
        )?;
        Ok((filter, options))
    }

    fn get(&self, resource: Resource, request: &Request) -> Result<Answer, Refusal> {
        let name = request.name.as_deref().unwrap_or_default();
        let object = self
            .store
            .get(resource, request.namespace.as_deref(), name)
            .ok_or_else(|| Refusal::not_found(resource, name))?;
        Ok(json_answer(StatusCode::OK, &object))
    }

    fn watch(&self, resource: Resource, filter: Filter, options: ListOptions, ending: &Ending) -> Answer {
        let source = Source {
            store: self.store.clone(),
            cache: Arc::clone(&self.cache),
            watches: self.watches.clone(),
            ending: ending.clone(),
        };
        let watch = Watch::new(source, resource, filter, options);
        let chunks = stream::unfold(watch, |mut watch| async {
            let chunk = watch.next().await?;
            Some((chunk.map(Frame::data), watch))
        });
        respond(StatusCode::OK, StreamBody::new(chunks).boxed_unsync())
    }
}

fn refuse(refusal: &Refusal) -> Answer {
    let code = status(refusal.code);
    let mut answer = match &refusal.status {
        Some(body) => json_answer(code, body),
        None => {
            let mut answer = respond(code, full("404 page not found\n".to_owned()));
            answer.headers_mut().insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static("text/plain; charset=utf-8"),
            );
            answer
        }
    };
    if let Some(seconds) = refusal.retry_after() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    respond(status, full(body.to_string()))
}

fn respond(status: StatusCode, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache, private"),
    ] {
        answer
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
    }
    answer
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("the refusals' codes are HTTP's")
}

/// The same body in pieces of at most `piece` bytes, each after a pause.
fn trickled(body: Body, piece: usize, pause: Duration) -> Body {
    let pieces = stream::unfold((body, Bytes::new()), move |(mut body, mut rest)| async move {
        while rest.is_empty() {
            match body.frame().await? {
                Ok(frame) => rest = frame.into_data().unwrap_or_default(),
                Err(error) => return Some((Err(error), (body, rest))),
            }
        }
        sleep(pause).await;
        let next = rest.split_to(piece.clamp(1, rest.len()));
        Some((Ok(Frame::data(next)), (body, rest)))
    });
    StreamBody::new(pieces).boxed_unsync()
}
