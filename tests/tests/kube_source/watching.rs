//! What happens in the cluster while it is watched.

use std::time::Duration;

use http::StatusCode;
use lab::apiserver::{Cut, Fault, Kind, Resource, Which};
use serde_json::json;

use crate::watched::{LIMIT, NODE, Watched, asked, node, service, small_cluster};

#[test]
fn changes_arrive() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    server.store().apply(service("web", 8080));
    server.store().delete(Resource::Services, Some("shop"), "api");
    server.store().apply(node(NODE, "b"));
    watched.wait("the changes", |watched| {
        let zone = watched.node.as_ref().and_then(|node| node.zone.as_deref());
        watched.port("web") == Some(8080) && watched.port("api").is_none() && zone == Some("b")
    });
    server.store().apply(node("node2", "c"));
    server.store().delete(Resource::Nodes, None, NODE);
    watched.wait("the Node's end", |watched| watched.node.is_none());
}

#[test]
fn an_object_that_leaves_the_selection_is_gone_until_it_is_back() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    let store = server.store();
    let label = |resource, name, label: &str, value| {
        let patch = json!({"metadata": {"labels": {label: value}}});
        store.patch(resource, Some("shop"), name, &patch).unwrap();
    };
    label(
        Resource::Services,
        "web",
        "service.kubernetes.io/service-proxy-name",
        json!("other"),
    );
    label(
        Resource::EndpointSlices,
        "web-1",
        "service.kubernetes.io/headless",
        json!(""),
    );
    watched.wait("that they leave", |watched| {
        watched.port("web").is_none() && watched.slices.is_empty()
    });
    label(
        Resource::Services,
        "web",
        "service.kubernetes.io/service-proxy-name",
        json!(null),
    );
    label(
        Resource::EndpointSlices,
        "web-1",
        "service.kubernetes.io/headless",
        json!(null),
    );
    watched.wait("that they are back", |watched| {
        watched.port("web").is_some() && watched.slices.len() == 1
    });
    // To another kind of Service, which the selectors do not see.
    let external = json!({"spec": {"type": "ExternalName", "externalName": "x.example.org", "clusterIP": null, "clusterIPs": null}});
    store
        .patch(Resource::Services, Some("shop"), "web", &external)
        .unwrap();
    watched.wait("that it is no Service of ours", |watched| {
        watched.port("web").is_none()
    });
}

#[test]
fn the_own_node_is_waited_for() {
    let server = small_cluster();
    server.store().delete(Resource::Nodes, None, NODE);
    let mut watched = Watched::new(&[&server]);
    watched.wait("the lists", |watched| {
        watched.services.len() == 2 && watched.slices.len() == 1
    });
    watched.watch_for(Duration::from_secs(2), |watched| !watched.done);
    server.store().apply(node(NODE, "a"));
    watched.wait("the Node", |watched| watched.done);
    assert!(watched.node.is_some(), "before it is done");
}

#[test]
fn a_cut_connection_costs_no_list_and_no_event() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    for (round, cut) in [Cut::End, Cut::Truncate, Cut::Reset].into_iter().enumerate() {
        server.wait_watches(Resource::Services, 1, LIMIT).unwrap();
        server.cut_watches(Resource::Services, cut);
        let port = 9_000 + u16::try_from(round).unwrap();
        server.store().apply(service("web", port));
        watched.wait("the change", |watched| watched.port("web") == Some(port));
    }
    let asked = asked(&server, Resource::Services);
    let again: Vec<&String> = asked[1..]
        .iter()
        .filter(|line| !line.starts_with("watch"))
        .collect();
    assert!(again.is_empty(), "{asked:?}");
}

#[test]
fn bookmarks_keep_the_version_fresh() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    let store = server.store();
    store.advance_to(store.version() + 1_000);
    server.bookmark(None);
    // The bookmark is on the wire before what comes after it.
    store.apply(service("after", 85));
    watched.wait("what follows", |watched| watched.port("after").is_some());
    store.compact(store.version() - 1);
    for resource in [Resource::Services, Resource::EndpointSlices] {
        server.cut_watches(resource, Cut::End);
        let lines = server
            .wait_requests("a watch", LIMIT, |_| {
                let lines = asked(&server, resource);
                (lines.len() > 1).then_some(lines)
            })
            .unwrap();
        assert!(lines[1].starts_with("watch 10"), "{lines:?}");
    }
    store.apply(service("web", 86));
    watched.wait("a change", |watched| watched.port("web") == Some(86));
    let lists = asked(&server, Resource::Services)
        .iter()
        .filter(|line| line.starts_with("stream"))
        .count();
    assert_eq!(lists, 1);
}

#[test]
fn an_expired_watch_is_an_event_or_a_status() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    let expired = json!({"type": "ERROR", "object": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version: 1 (500)",
    }});
    server.say(Resource::Services, format!("{expired}\n"));
    let gone = Fault::status(StatusCode::GONE);
    server.faults().next(
        1,
        Which::any().kind(Kind::Watch).resource(Resource::EndpointSlices),
        gone,
    );
    server.cut_watches(Resource::EndpointSlices, Cut::End);
    for resource in [Resource::Services, Resource::EndpointSlices] {
        let listed = || {
            asked(&server, resource)
                .iter()
                .filter(|line| line.starts_with("stream "))
                .count()
        };
        server
            .wait_requests("a list", LIMIT, |_| (listed() == 1).then_some(()))
            .unwrap();
    }
    server.store().apply(service("web", 86));
    watched.wait("a change", |watched| watched.port("web") == Some(86));
}

#[test]
fn what_is_no_event_and_no_service_does_no_harm() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    let mut bad = service("bad", 80);
    bad["metadata"]["resourceVersion"] = json!(server.store().version().to_string());
    bad["spec"]["ports"] = json!("eighty");
    let event = json!({"type": "ADDED", "object": bad});
    server.say(Resource::Services, format!("{event}\n"));
    server.store().apply(service("web", 86));
    watched.wait("a change after a malformed object", |watched| {
        watched.port("web") == Some(86)
    });
    assert_eq!(asked(&server, Resource::Services).len(), 1, "the watch goes on");
    server.say(Resource::Services, "<html>502 Bad Gateway</html>\n");
    server.store().apply(service("web", 87));
    watched.wait("a change after garbage", |watched| {
        watched.port("web") == Some(87)
    });
    assert_eq!(watched.services.len(), 2);
}
