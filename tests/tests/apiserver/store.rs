//! The store assigns what the API server assigns.

use lab::apiserver::{Resource, Store};
use serde_json::json;

use crate::client::service;

#[test]
fn an_object_keeps_its_uid_and_birth_and_moves_its_version() {
    let store = Store::new();
    let made = store.apply(service("a"));
    let metadata = &made["metadata"];
    assert_eq!(metadata["resourceVersion"], "2");
    let uid = metadata["uid"].as_str().unwrap();
    assert_eq!((uid.len(), &uid[14..15]), (36, "4"), "{uid}");
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(metadata["generation"], json!(null));

    let mut changed = service("a");
    changed["spec"]["type"] = "NodePort".into();
    let changed = store.apply(changed);
    assert_eq!(changed["metadata"]["resourceVersion"], "3");
    assert_eq!(changed["metadata"]["uid"], metadata["uid"]);

    assert_eq!(store.apply(changed.clone()), changed);
    assert_eq!(store.version(), 3, "nothing changed, so no version");

    let deleted = store.delete(Resource::Services, Some("t"), "a").unwrap();
    assert_eq!(deleted["metadata"]["resourceVersion"], "4");
    assert_eq!(store.delete(Resource::Services, Some("t"), "a"), None);
    assert_ne!(store.apply(service("a"))["metadata"]["uid"], metadata["uid"]);
}

#[test]
fn a_slices_generation_moves_with_content_and_labels_only() {
    let store = Store::new();
    let made = store.apply(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "a", "namespace": "t"},
        "addressType": "IPv4", "endpoints": [], "ports": [],
    }));
    assert_eq!(made["metadata"]["generation"], 1);
    for (patch, generation) in [
        (json!({"metadata": {"annotations": {"a": "b"}}}), 1),
        (json!({"metadata": {"labels": {"a": "b"}}}), 2),
        (json!({"endpoints": [{"addresses": ["10.0.0.1"]}]}), 3),
    ] {
        let changed = store
            .patch(Resource::EndpointSlices, Some("t"), "a", &patch)
            .unwrap();
        assert_eq!(changed["metadata"]["generation"], generation, "{patch}");
    }
}

#[test]
fn a_merge_patch_sets_replaces_and_removes() {
    let store = Store::new();
    store.apply(service("a"));
    let patch =
        json!({"spec": {"clusterIP": null, "type": "NodePort", "ports": []}, "status": {"x": {"y": null}}});
    let patched = store.patch(Resource::Services, Some("t"), "a", &patch).unwrap();
    assert_eq!(patched["spec"], json!({"type": "NodePort", "ports": []}));
    assert_eq!(patched["status"], json!({"x": {}}));
    assert_eq!(store.patch(Resource::Services, Some("t"), "b", &patch), None);
}

#[test]
#[should_panic(expected = "the store is at 9 already")]
fn a_replayed_change_cannot_come_before_the_newest() {
    let store = Store::new();
    store.advance_to(9);
    let mut object = service("a");
    object["metadata"]["resourceVersion"] = "9".into();
    store.put_at(object);
}
