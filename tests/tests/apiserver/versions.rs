//! Lists: which resource version they are of, and that their pages are of one.

use std::thread;

use lab::apiserver::{ApiServer, Store};
use serde_json::{Value, json};

use crate::client::{PATIENCE, get, get_json, impatient, names, patient, service};

/// At 2 there is `a`, at 3 `a` and `b`, at 4 all three; the cache stands still at 3.
fn lagging(server: ApiServer) -> (Store, ApiServer) {
    let store = server.store().clone();
    store.apply(service("a"));
    store.apply(service("b"));
    server.freeze_cache();
    store.apply(service("c"));
    assert_eq!(store.version(), 4);
    (store, server)
}

#[test]
fn a_list_is_of_the_version_its_options_call_for() {
    let (_, server) = lagging(impatient());
    for (query, version, expected) in [
        ("", "4", vec!["a", "b", "c"]),
        ("resourceVersion=", "4", vec!["a", "b", "c"]),
        ("resourceVersion=0", "3", vec!["a", "b"]),
        ("resourceVersion=0&limit=1", "3", vec!["a", "b"]),
        (
            "resourceVersion=2&resourceVersionMatch=NotOlderThan",
            "3",
            vec!["a", "b"],
        ),
        ("resourceVersion=2", "3", vec!["a", "b"]),
        ("resourceVersion=2&resourceVersionMatch=Exact", "2", vec!["a"]),
        (
            "resourceVersion=4&resourceVersionMatch=Exact",
            "4",
            vec!["a", "b", "c"],
        ),
        ("resourceVersion=2&limit=5", "2", vec!["a"]),
    ] {
        let (status, list) = get_json(&server, &format!("/api/v1/services?{query}"));
        assert_eq!(status, 200, "{query}: {list}");
        assert_eq!(list["metadata"]["resourceVersion"], version, "{query}");
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[test]
fn a_list_that_must_not_be_older_waits_for_the_cache() {
    let (_, server) = lagging(patient());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            get_json(
                &server,
                "/api/v1/services?resourceVersion=4&resourceVersionMatch=NotOlderThan",
            )
        });
        server
            .wait_requests("the list", PATIENCE, |seen| seen.first().cloned())
            .unwrap();
        server.thaw_cache();
        let (status, list) = waiting.join().unwrap();
        assert_eq!((status, names(&list)), (200, vec!["a", "b", "c"]));
    });
}

#[test]
fn a_cache_that_stays_behind_is_said_so() {
    let (_, server) = lagging(impatient());
    let (status, refused) = get_json(&server, "/api/v1/services?resourceVersion=4");
    assert_eq!(status, 504);
    assert_eq!(
        refused["message"],
        "Timeout: Too large resource version: 4, current: 3"
    );
}

fn token(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().unwrap()
}

#[test]
fn pages_are_of_one_version_whatever_is_written_meanwhile() {
    let server = ApiServer::start().unwrap();
    for name in ["a", "b", "c", "d"] {
        server.store().apply(service(name));
    }
    let (_, first) = get_json(&server, "/api/v1/services?limit=2");
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 2);

    server.store().apply(service("bb"));
    server
        .store()
        .delete(lab::apiserver::Resource::Services, Some("t"), "d");
    let (_, second) = get_json(
        &server,
        &format!("/api/v1/services?limit=2&continue={}", token(&first)),
    );
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(
        second["metadata"],
        json!({"resourceVersion": first["metadata"]["resourceVersion"]})
    );
}

#[test]
fn a_token_whose_version_is_compacted_is_gone_and_offers_one_for_the_rest() {
    let server = ApiServer::start().unwrap();
    for name in ["a", "b", "c"] {
        server.store().apply(service(name));
    }
    let (_, first) = get_json(&server, "/api/v1/services?limit=1");
    server.store().apply(service("bb"));
    server.store().compact(server.store().version());

    let (status, gone) = get_json(
        &server,
        &format!("/api/v1/services?limit=1&continue={}", token(&first)),
    );
    assert_eq!((status, gone["reason"].as_str()), (410, Some("Expired")));
    let (status, rest) = get_json(&server, &format!("/api/v1/services?continue={}", token(&gone)));
    assert_eq!((status, names(&rest)), (200, vec!["b", "bb", "c"]));
}

#[test]
fn an_exact_list_of_a_compacted_version_is_gone() {
    let (store, server) = lagging(impatient());
    store.compact(3);
    let exact = |version| {
        get_json(
            &server,
            &format!("/api/v1/services?resourceVersion={version}&resourceVersionMatch=Exact"),
        )
    };
    assert_eq!(exact(2).0, 410);
    assert_eq!(exact(3).0, 200);
}

#[test]
fn objects_are_listed_in_the_order_of_their_keys() {
    let server = ApiServer::start().unwrap();
    for namespace in ["a", "a-b", "b"] {
        let mut object = service("x");
        object["metadata"]["namespace"] = namespace.into();
        server.store().apply(object);
    }
    let (_, list) = get_json(&server, "/api/v1/services");
    let order: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["namespace"].as_str().unwrap())
        .collect();
    // A hyphen comes before the slash that ends a namespace.
    assert_eq!(order, ["a-b", "a", "b"]);
    let (_, list) = get_json(&server, "/api/v1/namespaces/b/services");
    assert_eq!(names(&list), ["x"]);
    assert_eq!(list["items"][0]["metadata"]["namespace"], "b");
}

#[test]
fn what_is_not_served_is_refused_as_the_api_server_does() {
    let server = ApiServer::start().unwrap();
    let mut answer = get(&server, "/api/v1/pods");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.body().0, "404 page not found\n");
    let (status, refused) =
        crate::client::send(server.address(), "POST /api/v1/namespaces/t/services", &[], "{}")
            .unwrap()
            .json();
    assert_eq!(
        (status, refused["reason"].as_str()),
        (405, Some("MethodNotAllowed"))
    );
}

#[test]
fn servers_of_one_store_see_the_same_with_caches_of_their_own() {
    let one = ApiServer::start().unwrap();
    let other = ApiServer::builder().store(one.store()).start().unwrap();
    other.freeze_cache();
    one.store().apply(service("a"));
    let cached = "/api/v1/services?resourceVersion=0";
    assert_eq!(names(&get_json(&one, cached).1), ["a"]);
    assert_eq!(names(&get_json(&other, cached).1), [] as [&str; 0]);
    assert_eq!(names(&get_json(&other, "/api/v1/services").1), ["a"]);
}
