//! The first lists, and later ones.

use http::StatusCode;
use lab::apiserver::{ApiServer, Cut, Fault, Kind, Resource, Which};

use crate::watched::{LIMIT, NODE, Watched, asked, node, service, slice, small_cluster};

fn is_all(watched: &Watched) -> bool {
    let node = watched.node.as_ref().and_then(|node| node.zone.as_deref());
    watched.services.len() == 2 && watched.slices.len() == 1 && node == Some("a")
}

#[test]
fn the_first_lists_are_streams() {
    let server = small_cluster();
    let watched = Watched::ready(&server);
    assert!(is_all(&watched));
    for resource in [Resource::Services, Resource::EndpointSlices, Resource::Nodes] {
        assert_eq!(asked(&server, resource), ["stream"]);
        assert_eq!(server.open_watches(resource), 1, "it goes on as the watch");
    }
}

#[test]
fn without_streaming_lists_the_cache_is_asked() {
    let server = small_cluster();
    server.serve_streaming_lists(false);
    let watched = Watched::ready(&server);
    assert!(is_all(&watched));
    let version = server.store().version();
    for resource in [Resource::Services, Resource::EndpointSlices, Resource::Nodes] {
        server.wait_watches(resource, 1, LIMIT).unwrap();
        let expected = [
            "stream".to_owned(),
            "list 0".to_owned(),
            format!("watch {version}"),
        ];
        assert_eq!(asked(&server, resource), expected);
    }
}

#[test]
fn without_a_cache_pages_are_read() {
    let server = small_cluster();
    for index in 0..1_200 {
        server.store().apply(service(&format!("s{index}"), 80));
    }
    server.serve_streaming_lists(false);
    let expired = Fault::status(StatusCode::GONE);
    server.faults().next(
        1,
        Which::any().kind(Kind::List).resource(Resource::Services),
        expired,
    );
    let watched = Watched::ready(&server);
    assert_eq!(watched.services.len(), 1_202);
    let asked = asked(&server, Resource::Services);
    assert_eq!(asked[..5], ["stream", "list 0", "page", "next page", "next page"]);
}

#[test]
fn a_list_that_trickles_in_is_a_list() {
    let server = small_cluster();
    let trickle = Fault::Trickle {
        piece: 37,
        pause: std::time::Duration::from_millis(5),
    };
    server.faults().always(Which::any(), trickle.clone());
    assert!(is_all(&Watched::ready(&server)), "as a stream");
    server.serve_streaming_lists(false);
    assert!(is_all(&Watched::ready(&server)), "in one piece");
}

#[test]
fn what_was_deleted_while_the_server_was_away_is_gone() {
    let server = small_cluster();
    let mut watched = Watched::ready(&server);
    server.stop();
    let store = server.store();
    store.delete(Resource::Services, Some("shop"), "api").unwrap();
    store
        .delete(Resource::EndpointSlices, Some("shop"), "web-1")
        .unwrap();
    store.apply(service("new", 82));
    // The history of the deletion is forgotten: only a list can tell.
    store.compact(store.version());
    server.restart().unwrap();
    watched.wait("a list", |watched| {
        watched.services.keys().collect::<Vec<_>>() == ["new", "web"] && watched.slices.is_empty()
    });
    assert!(
        asked(&server, Resource::Services)
            .iter()
            .filter(|line| line.starts_with("stream"))
            .count()
            == 2
    );
}

#[test]
fn a_large_cluster_is_listed_twice_and_told_once() {
    let server = ApiServer::start().unwrap();
    let store = server.store();
    store.apply(node(NODE, "a"));
    for index in 0..5_000 {
        let name = format!("s{index}");
        store.apply(service(&name, 80));
        for part in 0..4 {
            store.apply(slice(&format!("{name}-{part}"), &name));
        }
    }
    let mut watched = Watched::ready(&server);
    assert_eq!((watched.services.len(), watched.slices.len()), (5_000, 20_000));
    assert_eq!(watched.told, 25_001);
    for cut in 1..=2 {
        server
            .faults()
            .next(3, Which::any().kind(Kind::Watch), Fault::status(StatusCode::GONE));
        server.cut_watches(None, Cut::End);
        let lists = |resource| {
            asked(&server, resource)
                .iter()
                .filter(|line| line.starts_with("stream"))
                .count()
        };
        lab::poll::until("lists", LIMIT, || {
            let again = lists(Resource::Services).min(lists(Resource::EndpointSlices));
            (again == cut + 1).then_some(()).ok_or_else(|| format!("{again}"))
        })
        .unwrap();
    }
    store.apply(service("s7", 88));
    store.apply(slice("s7-0", "s8"));
    watched.wait("the changes", |watched| {
        watched.port("s7") == Some(88) && watched.slices["s7-0"].service.name == "s8"
    });
    assert_eq!(watched.told, 25_003);
}
