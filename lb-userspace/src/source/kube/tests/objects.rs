//! Objects that are not used, or not whole.

use super::*;
use crate::source::events::Reason;

#[tokio::test(start_paused = true)]
async fn a_malformed_object_costs_only_itself() {
    let bad = changed(service("bad", 3), "/spec/ports", json!("eighty"));
    let nameless = changed(service("x", 4), "/metadata/name", json!(5));
    let mut script = Script::new(1);
    let mut stream = script.asked("stream").await.0.stream();
    for object in [&service("a", 2), &bad, &nameless, &service("z", 5)] {
        stream.event("ADDED", object);
    }
    stream.complete(6);
    assert_eq!(script.delivered().await, "+a +z .");
    stream.event(
        "ADDED",
        &changed(service("worse", 7), "/metadata/labels", json!([])),
    );
    stream.event("ADDED", &service("b", 8));
    assert_eq!(script.delivered().await, "+b");
    let told = [
        script.events.recv().await.unwrap(),
        script.events.recv().await.unwrap(),
    ];
    assert_eq!(told[0].object.to_string(), "Service n/bad");
    assert_eq!(
        (told[0].uid.as_str(), told[0].reason),
        ("uid-bad", Reason::Refused)
    );
    assert!(
        told[0].note.starts_with("spec.ports: invalid type: string"),
        "{}",
        told[0].note
    );
    assert_eq!(told[1].object.to_string(), "Service n/worse");
    assert!(
        script.events.try_recv().is_err(),
        "the nameless one has no owner to be told"
    );
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_of_a_list_costs_only_itself() {
    let bad = changed(service("bad", 3), "/spec/ports/0/port", json!("http"));
    let mut script = Script::new(1);
    script.asked("stream").await.0.refuse(422, "Invalid");
    script
        .asked("cache 0")
        .await
        .0
        .list(9, &[service("a", 2), bad, service("z", 5)]);
    assert_eq!(script.delivered().await, "+a +z .");
    assert_eq!(
        script.events.recv().await.unwrap().note.split(": ").next(),
        Some("spec.ports[0].port")
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_good_version_of_a_refused_object_stays_in_force() {
    let bad = |version| changed(service("a", version), "/spec/ports/0/port", json!(0));
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[service("a", 5)]).await;
    stream.event("MODIFIED", &bad(11));
    stream.event("MODIFIED", &bad(12));
    stream.event("ADDED", &service("b", 13));
    assert_eq!(script.delivered().await, "+b");
    // Said once, and again when it came back after being good.
    stream.event("MODIFIED", &service("a", 14));
    stream.event("MODIFIED", &bad(15));
    stream.event("DELETED", &bad(16));
    assert_eq!(script.delivered().await, "+a -a");
    for _ in 0..2 {
        let told = script.events.recv().await.unwrap();
        assert_eq!((told.object.name.as_str(), told.reason), ("a", Reason::Refused));
    }
    assert!(script.events.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_of_the_name_of_another_does_not_keep_that_one() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[service("a", 5)]).await;
    stream.error(410, "Expired");
    let bad = changed(service("a", 15), "/spec/ports/0/port", json!(0));
    let mut stream = script.asked("stream 10").await.0.stream();
    stream.event("ADDED", &changed(bad, "/metadata/uid", json!("another")));
    stream.complete(20);
    assert_eq!(script.delivered().await, "-a .");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_stops_being_ours_is_gone() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[service("a", 5), service("b", 6)]).await;
    stream.event(
        "MODIFIED",
        &changed(service("a", 11), "/spec/type", json!("ExternalName")),
    );
    stream.event(
        "MODIFIED",
        &changed(service("a", 12), "/spec/externalName", json!("x.example.org")),
    );
    assert_eq!(script.delivered().await, "-a +a", "the second is a Service again");
    // Out of the selection, and back in.
    stream.event("DELETED", &service("b", 13));
    stream.event("ADDED", &service("b", 14));
    assert_eq!(script.delivered().await, "-b +b");
}

#[tokio::test(start_paused = true)]
async fn ignored_parts_are_told_once_as_long_as_they_are_the_same() {
    let with = |version, address: &str| changed(service("a", version), "/spec/externalIPs", json!([address]));
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[with(5, "banana")]).await;
    for (version, address) in [(11, "banana"), (12, "cherry"), (13, "192.0.2.1"), (14, "cherry")] {
        stream.event("MODIFIED", &with(version, address));
    }
    assert_eq!(script.delivered().await, "+a +a +a +a");
    let mut notes = Vec::new();
    while let Ok(told) = script.events.try_recv() {
        assert_eq!(told.reason, Reason::PartIgnored);
        notes.push(if told.note.contains("banana") {
            "banana"
        } else {
            "cherry"
        });
    }
    assert_eq!(notes, ["banana", "cherry", "cherry"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_with_an_object_of_no_name_removes_nothing() {
    let mut script = Script::new(1);
    let mut stream = script.listed(10, &[service("a", 5), service("b", 6)]).await;
    stream.error(410, "Expired");
    let nameless = changed(service("b", 12), "/metadata/name", json!(null));
    let mut stream = script.asked("stream 10").await.0.stream();
    stream.event("ADDED", &service("a", 5));
    stream.event("ADDED", &nameless);
    stream.complete(20);
    assert_eq!(script.delivered().await, ".");
}
