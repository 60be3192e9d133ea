//! `/healthz` and `/livez` (S41).

use lab::poll;
use serde_json::json;

use crate::http::Response;
use crate::site::{HEALTH_PORT, LIMIT, Site, Web};

const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: node0}\nstatus:\n  addresses:\n  \
                    - {type: InternalIP, address: 192.0.2.10}\n  - {type: InternalIP, address: \"2001:db8:0:1::a\"}\n";
const TAINT: &str = "spec:\n  taints:\n  - {key: ToBeDeletedByClusterAutoscaler, value: \"1700000000\", effect: NoSchedule}\n";

fn first_answer(site: &Site) -> Response {
    poll::until("somebody listens", LIMIT, || {
        site.ask(false, HEALTH_PORT, "/healthz")
    })
    .unwrap()
}

/// S41.
#[test]
fn a_node_the_autoscaler_takes_away_is_left_by_load_balancers_and_lives() {
    let site = Site::ready(&Web::local(&[]), &[]);
    for v6 in [false, true] {
        let healthy = site.ask_until(v6, HEALTH_PORT, "/healthz", |answer| answer.status == 200);
        assert_eq!(healthy.json()["nodeEligible"], true, "without a Node object");
        assert_eq!(healthy.json()["status"]["IPv4"]["healthy"], true);
        assert!(healthy.has_header("content-type: application/json"));
    }
    site.put("node.yaml", &format!("{NODE}{TAINT}"));
    let leaving = site.ask_until(false, HEALTH_PORT, "/healthz", |answer| answer.status == 503);
    assert_eq!(leaving.json()["nodeEligible"], false);
    assert_eq!(leaving.json()["healthy"], true);
    let live = site.ask(false, HEALTH_PORT, "/livez").unwrap();
    assert_eq!((live.status, live.json().get("nodeEligible")), (200, None));
    site.put("node.yaml", NODE);
    site.ask_until(false, HEALTH_PORT, "/healthz", |answer| answer.status == 200);
    assert_eq!(site.ask(false, HEALTH_PORT, "/").unwrap().status, 404);
}

/// S41.
#[test]
fn an_empty_datapath_is_unhealthy_until_it_is_filled_and_one_that_was_left_is_healthy_at_once() {
    let mut site = Site::start(&Web::local(&[]), &[]);
    let first = first_answer(&site);
    if !site.agent.log().contains("xvip: ready") {
        assert_eq!(first.status, 503, "{first:?}");
        assert_eq!(first.json()["lastUpdated"], "0001-01-01T00:00:00Z");
    }
    site.agent.wait_ready().unwrap();
    site.ask_until(false, HEALTH_PORT, "/healthz", |answer| answer.status == 200);

    site.agent.restart().unwrap();
    let first = first_answer(&site);
    assert_eq!(
        (first.status, &first.json()["healthy"]),
        (200, &json!(true)),
        "{first:?}"
    );
}
