//! The role allows what the agent asks for, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::apiserver::{ApiServer, Request, Resource};
use lb_userspace::model::{ObjectRef, Update};
use lb_userspace::source::events::{ObjectEvent, Reason};
use lb_userspace::source::kube::{Access, Servers, watch};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::files::Base;

/// Verb, API group, resource.
type Right = (String, String, String);

const LIMIT: Duration = Duration::from_secs(30);

fn right(verb: &str, group: &str, resource: &str) -> Right {
    (verb.to_owned(), group.to_owned(), resource.to_owned())
}

fn allowed() -> BTreeSet<Right> {
    let mut allowed = BTreeSet::new();
    for rule in Base::read().role.rules.into_iter().flatten() {
        assert_eq!((rule.resource_names, rule.non_resource_urls), (None, None));
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                allowed.extend(rule.verbs.iter().map(|verb| right(verb, group, resource)));
            }
        }
    }
    allowed
}

fn asked(requests: &[Request]) -> BTreeSet<Right> {
    let rights = requests.iter().map(|request| {
        assert_eq!(request.subresource, None, "{request}");
        right(request.verb, &request.api_group, &request.resource)
    });
    rights.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_allows_what_is_asked_and_nothing_else() {
    let server = ApiServer::start().unwrap();
    // Watches alone would do where lists can be streamed.
    server.serve_streaming_lists(false);
    server
        .store()
        .apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}));

    let scratch = tempfile::tempdir().unwrap();
    let kubeconfig = scratch.path().join("kubeconfig");
    server.kubeconfig().write(&kubeconfig).unwrap();
    let servers = Servers::connect(&Access {
        kubeconfig: Some(kubeconfig),
        servers: Vec::new(),
    })
    .unwrap();
    let cancel = CancellationToken::new();
    let _end = cancel.clone().drop_guard();
    let mut source = watch(servers, "node-1".to_owned(), Duration::ZERO, cancel);
    let listed = async {
        while let Some(batch) = source.updates.recv().await {
            if batch.contains(&Update::InitialListsDone) {
                return;
            }
        }
        panic!("the source ended");
    };
    timeout(LIMIT, listed).await.expect("the first lists");
    source.events.send(ObjectEvent {
        object: ObjectRef::new("Service", "shop", "web"),
        uid: "4f1c".to_owned(),
        reason: Reason::Refused,
        note: "no good".to_owned(),
    });
    let seen = tokio::task::spawn_blocking(move || {
        for resource in [Resource::Services, Resource::EndpointSlices, Resource::Nodes] {
            server.wait_watches(resource, 1, LIMIT).unwrap();
        }
        let told = |requests: &[Request]| {
            requests
                .iter()
                .any(|request| request.verb == "create")
                .then_some(())
        };
        server.wait_requests("an event", LIMIT, told).unwrap();
        asked(&server.requests())
    });
    let mut seen = seen.await.unwrap();
    // An event that repeats is patched, but not before ten minutes are over: the publisher's own tests see it.
    assert!(seen.insert(right("patch", "events.k8s.io", "events")));
    assert_eq!(seen, allowed());
}
