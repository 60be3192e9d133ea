//! Watches and streaming lists: what they tell, from when, and how they end.

use lab::apiserver::{ApiServer, Resource};
use serde_json::json;

use crate::client::{End, PATIENCE, get, get_json, impatient, patient, service, short};

const WATCH: &str = "/api/v1/services?watch=true";
const STREAMING: &str = "/api/v1/services?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";

#[test]
fn a_watch_tells_what_enters_and_leaves_its_selection() {
    let server = ApiServer::start().unwrap();
    let store = server.store();
    let mut watch = get(
        &server,
        &format!("{WATCH}&resourceVersion=1&labelSelector=%21proxy&fieldSelector=spec.clusterIP%21%3DNone"),
    );
    store.apply(service("a"));
    store.patch(
        Resource::Services,
        Some("t"),
        "a",
        &json!({"metadata": {"labels": {"proxy": "other"}}}),
    );
    store.patch(
        Resource::Services,
        Some("t"),
        "a",
        &json!({"metadata": {"labels": {"more": "of it"}}}),
    );
    store.patch(
        Resource::Services,
        Some("t"),
        "a",
        &json!({"metadata": {"labels": null}}),
    );
    store.patch(
        Resource::Services,
        Some("t"),
        "a",
        &json!({"spec": {"clusterIP": "None"}}),
    );
    store.delete(Resource::Services, Some("t"), "a");
    store.apply(service("b"));
    assert_eq!(short(&watch.event()), "ADDED a 2");
    let left = watch.event();
    assert_eq!(short(&left), "DELETED a 3");
    assert_eq!(left["object"]["metadata"]["labels"], json!(null));
    assert_eq!(watch.events(3), ["ADDED a 5", "DELETED a 6", "ADDED b 8"]);
}

#[test]
fn a_watch_begins_where_its_version_says() {
    let server = patient();
    for name in ["a", "b"] {
        server.store().apply(service(name));
    }
    server.freeze_cache();
    server.store().apply(service("c"));
    let mut from_version = get(&server, &format!("{WATCH}&resourceVersion=2"));
    let mut from_cache = get(&server, &format!("{WATCH}&resourceVersion=0"));
    let mut from_newest = get(&server, WATCH);

    assert_eq!(from_version.events(1), ["ADDED b 3"]);
    assert_eq!(from_cache.events(2), ["ADDED a 2", "ADDED b 3"]);
    for watch in [&mut from_version, &mut from_cache, &mut from_newest] {
        assert!(watch.is_silent(), "the cache stands still");
    }
    server.thaw_cache();
    assert_eq!(from_version.events(1), ["ADDED c 4"]);
    assert_eq!(from_cache.events(1), ["ADDED c 4"]);
    assert_eq!(from_newest.events(3), ["ADDED a 2", "ADDED b 3", "ADDED c 4"]);
}

#[test]
fn a_watch_from_a_compacted_version_expires_and_one_that_runs_goes_on() {
    let server = ApiServer::start().unwrap();
    let store = server.store();
    store.apply(service("a"));
    let mut running = get(&server, &format!("{WATCH}&resourceVersion=2"));
    store.apply(service("b"));
    store.apply(service("c"));
    store.compact(4);

    let mut expired = get(&server, &format!("{WATCH}&resourceVersion=3"));
    assert_eq!(expired.status, 200);
    let event = expired.event();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["message"], "too old resource version: 3 (4)");
    assert_eq!(expired.try_line(), Err((End::Orderly, String::new())));

    let mut at_the_edge = get(&server, &format!("{WATCH}&resourceVersion=4"));
    store.apply(service("d"));
    assert_eq!(at_the_edge.events(1), ["ADDED d 5"]);
    assert_eq!(running.events(3), ["ADDED b 3", "ADDED c 4", "ADDED d 5"]);
}

#[test]
fn a_watch_that_lags_is_told_what_was_compacted_meanwhile() {
    let server = ApiServer::start().unwrap();
    let mut lagging = get(&server, &format!("{WATCH}&resourceVersion=1"));
    server.wait_watches(Resource::Services, 1, PATIENCE).unwrap();
    server.freeze_cache();
    for name in ["a", "b"] {
        server.store().apply(service(name));
    }
    server.store().compact(3);
    server.thaw_cache();
    assert_eq!(lagging.events(2), ["ADDED a 2", "ADDED b 3"]);
}

#[test]
fn bookmarks_come_when_asked_for_after_what_they_mark() {
    let server = ApiServer::start().unwrap();
    let mut with = get(
        &server,
        &format!("{WATCH}&resourceVersion=1&allowWatchBookmarks=true"),
    );
    let mut without = get(&server, &format!("{WATCH}&resourceVersion=1"));
    server.wait_watches(Resource::Services, 2, PATIENCE).unwrap();
    server.store().apply(service("a"));
    server.store().advance_to(9);
    assert_eq!(server.bookmark(Resource::Services), 2);
    assert_eq!(server.bookmark(Resource::Nodes), 0);
    assert_eq!(with.events(2), ["ADDED a 2", "BOOKMARK - 9"]);
    assert_eq!(without.events(1), ["ADDED a 2"]);
    assert!(without.is_silent());
}

#[test]
fn a_watch_ends_in_order_at_its_timeout() {
    let server = ApiServer::start().unwrap();
    let mut watch = get(&server, &format!("{WATCH}&resourceVersion=1&timeoutSeconds=1"));
    assert_eq!(watch.try_line(), Err((End::Orderly, String::new())));
    server.wait_watches(None, 0, PATIENCE).unwrap();
}

#[test]
fn a_watch_whose_reader_goes_away_is_closed() {
    let server = ApiServer::start().unwrap();
    let watch = get(&server, WATCH);
    assert_eq!(server.open_watches(Resource::Services), 1);
    assert_eq!(server.open_watches(Resource::Nodes), 0);
    drop(watch);
    server.wait_watches(None, 0, PATIENCE).unwrap();
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_streaming_list_is_state_bookmark_and_news() {
    let server = ApiServer::start().unwrap();
    for name in ["a", "b"] {
        server.store().apply(service(name));
    }
    let mut stream = get(&server, &format!("{STREAMING}&resourceVersion=2"));
    assert_eq!(stream.events(2), ["ADDED a 2", "ADDED b 3"]);
    let bookmark = stream.event();
    assert_eq!(short(&bookmark), "BOOKMARK - 3");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"],
        json!({"k8s.io/initial-events-end": "true"})
    );
    server.store().apply(service("c"));
    assert_eq!(stream.events(1), ["ADDED c 4"]);
}

#[test]
fn a_streaming_list_waits_for_the_newest_version_unless_any_will_do() {
    let server = patient();
    server.freeze_cache();
    server.store().apply(service("a"));
    let mut newest = get(&server, STREAMING);
    let mut any = get(&server, &format!("{STREAMING}&resourceVersion=0"));
    assert_eq!(any.events(1), ["BOOKMARK - 1"]);
    assert!(newest.is_silent());
    server.thaw_cache();
    assert_eq!(newest.events(2), ["ADDED a 2", "BOOKMARK - 2"]);
    assert_eq!(any.events(1), ["ADDED a 2"]);
}

#[test]
fn a_streaming_list_from_the_future_is_an_error_event() {
    let server = impatient();
    let event = get(&server, &format!("{STREAMING}&resourceVersion=7")).event();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["code"], 504);
    assert_eq!(
        event["object"]["message"],
        "Timeout: Too large resource version: 7, current: 1"
    );
}

#[test]
fn without_the_feature_streaming_lists_are_invalid() {
    let server = ApiServer::start().unwrap();
    server.serve_streaming_lists(false);
    let (status, refused) = get_json(&server, STREAMING);
    assert_eq!(status, 422);
    assert_eq!(
        refused["message"],
        "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for \
         watch unless the WatchList feature gate is enabled"
    );
    assert_eq!(
        refused["details"],
        json!({
            "group": "meta.k8s.io", "kind": "ListOptions",
            "causes": [{
                "reason": "FieldValueForbidden",
                "message": "Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
                "field": "sendInitialEvents",
            }],
        })
    );
}
