//! From a question to a request, and from an answer to its pieces.
//!
//! Owns: URLs, statuses, headers, how long an answer may take. Must not know: what is in a body, what follows from a failure.

use std::error::Error;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::BodyExt;
use kube::Client;
use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::client::Body;
use kube::core::Request;
use tokio::time::timeout;

use super::failure::{Failure, Refusal};
use super::lines::Pieces;
use super::position::Ask;
use super::resource::Resource;

/// An API server answers within a minute, if only to say that it could not.
const ANSWER: Duration = Duration::from_secs(65);
/// Elements of one page.
const PAGE: u32 = 500;
/// So much of a refusal is read.
const REFUSAL: usize = 64 << 10;

/// How a stream or a list is asked for. `seconds` is how long a stream may last, `token` the place where the next page begins.
pub(super) fn request(
    resource: &Resource,
    ask: &Ask,
    seconds: u32,
    token: Option<&str>,
) -> http::Request<Vec<u8>> {
    let base = Request::new(&resource.path);
    let built = match ask {
        Ask::Stream { from } => base.watch(
            &watch(resource, seconds, true),
            from.as_deref().unwrap_or_default(),
        ),
        Ask::Watch { from } => base.watch(&watch(resource, seconds, false), from),
        Ask::Cache { from: Some(from) } => {
            base.list(&list(resource).at(from).matching(VersionMatch::NotOlderThan))
        }
        Ask::Cache { from: None } => base.list(&list(resource).at("0")),
        Ask::Quorum { paged } => base.list(&ListParams {
            limit: paged.then_some(PAGE),
            continue_token: token.map(str::to_owned),
            ..list(resource)
        }),
    };
    built.expect("the path is constant and the query encoded")
}

fn watch(resource: &Resource, seconds: u32, everything: bool) -> WatchParams {
    WatchParams {
        label_selector: resource.labels.map(str::to_owned),
        field_selector: resource.fields.clone(),
        timeout: Some(seconds),
        bookmarks: true,
        send_initial_events: everything,
    }
}

fn list(resource: &Resource) -> ListParams {
    ListParams {
        label_selector: resource.labels.map(str::to_owned),
        field_selector: resource.fields.clone(),
        ..ListParams::default()
    }
}

/// Asks, and returns the body of a successful answer.
pub(super) async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<Pieces, Failure> {
    let answer = timeout(ANSWER, client.send(request.map(Body::from)));
    let answer = answer
        .await
        .map_err(|_| Failure::Connection(format!("no answer within {} s", ANSWER.as_secs())))?;
    let answer = answer.map_err(|error| broken(&error))?;
    let status = answer.status();
    let retry_after = answer.headers().get(http::header::RETRY_AFTER);
    let retry_after = retry_after
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let pieces = answer.into_body().into_data_stream();
    let mut pieces: Pieces = pieces
        .map(|piece| piece.map(Vec::from).map_err(|error| broken(&error)))
        .boxed();
    if status.is_success() {
        return Ok(pieces);
    }
    let mut body = Vec::new();
    let read = async {
        while let Some(Ok(piece)) = pieces.next().await
            && body.len() < REFUSAL
        {
            body.extend(piece);
        }
    };
    // The status alone says enough.
    let _ = timeout(ANSWER, read).await;
    let refusal = Refusal::of_answer(status.as_u16(), retry_after.as_deref(), &body);
    Err(Failure::Refusal(refusal))
}

/// The whole chain of causes: the outermost words are rarely those that help.
fn broken(error: &dyn Error) -> Failure {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some errors repeat their cause in their own words.
        if !words.iter().any(|said| said.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    Failure::Connection(words.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(resource: &Resource, ask: &Ask, token: Option<&str>, expected: &str) {
        let request = request(resource, ask, 250, token);
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&http::Method::GET, expected)
        );
    }

    #[test]
    fn every_question_has_its_url() {
        let slices = Resource::endpoint_slices();
        let path = "/apis/discovery.k8s.io/v1/endpointslices?&";
        let labels = "labelSelector=%21service.kubernetes.io%2Fheadless";
        let bookmarks = "allowWatchBookmarks=true";
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        let from = Some("7".to_owned());
        let watch = format!("{path}watch=true&timeoutSeconds=250&{labels}&{bookmarks}");
        check(
            &slices,
            &Ask::Stream { from: None },
            None,
            &format!("{watch}&{initial}&resourceVersion="),
        );
        check(
            &slices,
            &Ask::Stream { from: from.clone() },
            None,
            &format!("{watch}&{initial}&resourceVersion=7"),
        );
        check(
            &slices,
            &Ask::Watch { from: "7".to_owned() },
            None,
            &format!("{watch}&resourceVersion=7"),
        );
        check(
            &slices,
            &Ask::Cache { from: None },
            None,
            &format!("{path}{labels}&resourceVersion=0"),
        );
        check(
            &slices,
            &Ask::Cache { from },
            None,
            &format!("{path}{labels}&resourceVersion=7&resourceVersionMatch=NotOlderThan"),
        );
        check(
            &slices,
            &Ask::Quorum { paged: true },
            None,
            &format!("{path}{labels}&limit=500"),
        );
        check(
            &slices,
            &Ask::Quorum { paged: true },
            Some("t"),
            &format!("{path}{labels}&limit=500&continue=t"),
        );
        check(
            &slices,
            &Ask::Quorum { paged: false },
            None,
            &format!("{path}{labels}"),
        );
    }

    #[test]
    fn selectors_are_those_of_the_rules() {
        let whole = Ask::Quorum { paged: false };
        check(
            &Resource::services(),
            &whole,
            None,
            "/api/v1/services?&fieldSelector=spec.clusterIP%21%3DNone&labelSelector=%21service.kubernetes.io%2Fservice-proxy-name",
        );
        check(
            &Resource::node("n1"),
            &whole,
            None,
            "/api/v1/nodes?&fieldSelector=metadata.name%3Dn1",
        );
    }
}
