//! Asked what the real API server was asked, the double answers what that answered.

use lab::apiserver::{ApiServer, Exchange, Recording, Stream};
use serde_json::Value;

use crate::client::{get, get_json, impatient, send};

fn restored() -> (Recording, ApiServer) {
    let recording = Recording::load().unwrap();
    let server = ApiServer::start().unwrap();
    recording.restore(server.store());
    (recording, server)
}

/// The token is the server's own; everything else of a list is compared.
fn without_token(list: &Value) -> Value {
    let mut list = list.clone();
    list["metadata"].as_object_mut().unwrap().remove("continue");
    list
}

fn token(list: &Value) -> Option<&str> {
    list["metadata"]["continue"].as_str()
}

#[test]
fn the_first_lists_come_in_the_recorded_pages() {
    let (recording, server) = restored();
    let mut ours: Option<String> = None;
    for page in recording.lists() {
        let (_, target) = page.request.split_once(' ').unwrap();
        let target = match target.split_once("&continue=") {
            Some((first, _)) => format!("{first}&continue={}", ours.unwrap()),
            None => target.to_owned(),
        };
        let (status, answer) = get_json(&server, &target);
        assert_eq!(status, page.status);
        assert_eq!(without_token(&answer), without_token(&page.answer), "{target}");
        assert_eq!(
            token(&answer).is_some(),
            token(&page.answer).is_some(),
            "{target}"
        );
        ours = token(&answer).map(str::to_owned);
    }
}

#[test]
fn a_recorded_token_is_understood() {
    let (recording, server) = restored();
    for page in recording.lists() {
        let (_, target) = page.request.split_once(' ').unwrap();
        let (_, answer) = get_json(&server, target);
        assert_eq!(without_token(&answer), without_token(&page.answer), "{target}");
    }
}

fn tells_the_story(streams: impl Fn(&Recording) -> &[Stream]) {
    let (recording, server) = restored();
    let streams = streams(&recording);
    let mut open: Vec<_> = streams
        .iter()
        .map(|stream| get(&server, stream.request.strip_prefix("GET ").unwrap()))
        .collect();
    for step in recording.steps() {
        step.play(server.store());
    }
    for (stream, answer) in streams.iter().zip(&mut open) {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        for recorded in &stream.events {
            assert_eq!(answer.event(), recorded.event, "{}", stream.request);
        }
        assert!(answer.is_silent(), "{}", stream.request);
    }
}

#[test]
fn the_watches_tell_the_recorded_story() {
    tells_the_story(Recording::watches);
}

#[test]
fn the_streaming_lists_tell_state_bookmark_and_story() {
    tells_the_story(Recording::streaming_lists);
}

fn refusal<'a>(recording: &'a Recording, what: &str) -> &'a Exchange {
    recording
        .refusals()
        .iter()
        .find(|exchange| exchange.what == what)
        .unwrap()
}

/// Brings the store to the version it was at when this was recorded, and compares the answers.
fn refuses_as_recorded(what: &str, version: u64) {
    let recording = Recording::load().unwrap();
    let server = impatient();
    server.store().restore([], version);
    let recorded = refusal(&recording, what);
    let mut answer = send(server.address(), &recorded.request, &[], "").unwrap();
    assert_eq!(answer.status, recorded.status);
    let retry_after = recorded.answer["details"]["retryAfterSeconds"].as_u64();
    assert_eq!(
        answer.header("retry-after"),
        retry_after.map(|seconds| seconds.to_string()).as_deref()
    );
    let (body, _) = answer.body();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, recorded.answer, "{}", recorded.request);
}

#[test]
fn a_list_from_the_future_times_out_as_recorded() {
    refuses_as_recorded("list from a version that does not exist yet", 484);
}

#[test]
fn a_token_that_is_none_is_refused_as_recorded() {
    refuses_as_recorded("continue token that is not one", 484);
}

#[test]
fn an_object_that_is_not_there_is_refused_as_recorded() {
    refuses_as_recorded("not found", 484);
}

#[test]
fn watches_from_a_forgotten_version_expire_as_recorded() {
    refuses_as_recorded("watch from a version too old (API server restarted since)", 500);
    refuses_as_recorded("the same for services", 500);
}
