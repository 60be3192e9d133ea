//! What the owner of a Service finds beside it: Events about what is refused, ignored or taken by another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::apiserver::{ApiServer, Request, Resource};
use lab::cluster_lab::{ClusterLab, Shape};
use lab::poll;
use serde_json::{Value, json};

/// Agents that are busy with other things tell within this time.
const LIMIT: Duration = Duration::from_secs(30);
/// What one agent tells at once, of however many objects.
const BURST: usize = 100;
/// And how often it may tell one more after that.
const INTERVAL: Duration = Duration::from_secs(10);

/// Stores a Service; gives its uid.
fn apply(api: &ApiServer, name: &str, spec: Value, status: Value) -> String {
    let stored = api.store().apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
        "spec": spec, "status": status,
    }));
    stored["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

fn refused(number: usize) -> Value {
    let ip = format!("10.96.{}.{}", 100 + number / 200, 1 + number % 200);
    json!({"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 0, "protocol": "TCP"}]})
}

fn external(ip: &str, number: u8) -> Value {
    let cluster_ip = format!("10.96.0.{number}");
    json!({
        "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "externalIPs": [ip],
        "ports": [{"port": 80, "protocol": "TCP"}],
    })
}

fn created(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.verb == "create").count()
}

/// Waits until events have been sent this often.
fn wait_created(api: &ApiServer, count: usize) {
    let enough = |requests: &[Request]| (created(requests) >= count).then_some(());
    api.wait_requests(&format!("{count} events sent"), LIMIT, enough)
        .unwrap();
    assert_eq!(created(&api.requests()), count);
}

/// The events there are, by uid of what they are about: name, reason and note.
fn events(api: &ApiServer) -> BTreeMap<String, (String, String, String)> {
    let events = api.store().list(Resource::Events);
    let count = events.len();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let by_uid: BTreeMap<_, _> = events
        .iter()
        .map(|event| {
            let regarding = &event["regarding"];
            assert_eq!(regarding["apiVersion"], "v1");
            assert_eq!(regarding["kind"], "Service");
            assert_eq!(regarding["namespace"], "shop");
            assert_eq!(event["metadata"]["namespace"], "shop");
            assert_eq!(event["type"], "Warning");
            assert_eq!(event["reportingController"], "xvip");
            assert!(text(&event["reportingInstance"]).starts_with("node"), "{event}");
            let what = (
                text(&regarding["name"]),
                text(&event["reason"]),
                text(&event["note"]),
            );
            (text(&regarding["uid"]), what)
        })
        .collect();
    assert_eq!(by_uid.len(), count, "two events about one object: {events:#?}");
    by_uid
}

#[test]
fn an_owner_reads_once_what_every_node_finds() {
    let mut lab = ClusterLab::build(Shape::AUTO.on_kube()).unwrap();
    let nothing = json!({});
    let broken = apply(lab.api(), "broken", refused(0), nothing.clone());
    let odd = apply(
        lab.api(),
        "odd",
        json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"],
            "externalIPs": ["192.0.2"], "loadBalancerSourceRanges": ["10.0.0.0/8x", "0.0.0.0/0"],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }),
        json!({"loadBalancer": {"ingress": [{"ip": "nowhere"}]}}),
    );
    apply(lab.api(), "first", external("198.51.100.200", 3), nothing.clone());
    let second = apply(
        lab.api(),
        "second",
        external("198.51.100.200", 4),
        nothing.clone(),
    );
    lab.start_agents(&[]).unwrap();

    // Three of each of two nodes.
    wait_created(lab.api(), 6);
    let found = events(lab.api());
    let about = |uid: &str| &found[uid];
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(
        (about(&broken).0.as_str(), about(&broken).1.as_str()),
        ("broken", "Refused")
    );
    assert!(about(&broken).2.contains("spec.ports[0].port"), "{found:#?}");
    assert_eq!(
        (about(&odd).0.as_str(), about(&odd).1.as_str()),
        ("odd", "PartIgnored")
    );
    for ignored in ["externalIPs", "ingress", "SourceRanges"] {
        assert!(about(&odd).2.contains(ignored), "{ignored}: {found:#?}");
    }
    let conflict = "198.51.100.200 port 80 belongs to Service shop/first (80 TCP, IPv4) already";
    let expected = (
        "second".to_owned(),
        "AddressConflict".to_owned(),
        conflict.to_owned(),
    );
    assert_eq!(*about(&second), expected);

    // What has been told is not told again by an agent that goes on, however often the object is written; one that starts anew
    // does not know.
    for label in ["a", "b"] {
        let patch = json!({"metadata": {"labels": {"touched": label}}});
        let store = lab.api().store();
        store
            .patch(Resource::Services, Some("shop"), "broken", &patch)
            .unwrap();
        store
            .patch(Resource::Services, Some("shop"), "second", &patch)
            .unwrap();
    }
    apply(lab.api(), "later", refused(1), nothing);
    wait_created(lab.api(), 8);
    lab.agent_mut(0).restart().unwrap();
    wait_created(lab.api(), 12);
    assert_eq!(events(lab.api()).len(), 4);
}

#[test]
fn a_flood_of_bad_services_is_no_flood_of_events() {
    let mut lab = ClusterLab::build(
        Shape {
            nodes: 1,
            ..Shape::AUTO
        }
        .on_kube(),
    )
    .unwrap();
    for number in 0..2 * BURST {
        apply(lab.api(), &format!("broken-{number}"), refused(number), json!({}));
    }
    let began = Instant::now();
    lab.start_agents(&[]).unwrap();
    let agent = lab.agent(0);
    agent.wait_log("events were not told (too many)", LIMIT).unwrap();
    // The last of them has been thought about when one that comes after them is in the log.
    apply(lab.api(), "last", refused(2 * BURST), json!({}));
    agent.wait_log("shop/last", LIMIT).unwrap();
    poll::until("the burst", LIMIT, || match created(&lab.api().requests()) {
        sent if sent >= BURST => Ok(()),
        sent => Err(format!("{sent} were sent")),
    })
    .unwrap();
    let sent = created(&lab.api().requests());
    let later = usize::try_from(began.elapsed().as_secs() / INTERVAL.as_secs()).unwrap();
    assert!(sent <= BURST + later + 1, "{sent} were sent");
}
