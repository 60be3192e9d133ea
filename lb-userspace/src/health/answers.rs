//! The words of health checks, kube-proxy's to the letter (S40, S41).

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, StatusCode};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::state::{Health, Now};
use crate::model::ServiceKey;
use crate::web::Answer;

/// How Go writes a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Load balancers that weigh nodes read it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyBody {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: BTreeMap<String, FamilyBody>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyBody {
    last_updated: String,
    healthy: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceBody<'a> {
    service: ServiceName<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct ServiceName<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// `/healthz`: whether load balancers should choose this node. The Node counts; `healthy` in the body is the proxy's alone.
pub(super) fn healthz(health: &Health, now: Now) -> Answer {
    let eligible = health.node_eligible();
    let status = status(health.is_healthy(now) && eligible);
    Answer::json(status, &body(health, now, status, Some(eligible)))
}

/// `/livez`: whether the proxy does its work. A node that is on its way out needs it until the end.
pub(super) fn livez(health: &Health, now: Now) -> Answer {
    let status = status(health.is_healthy(now));
    Answer::json(status, &body(health, now, status, None))
}

/// A Service's health check, on a node with so many ready endpoints of it (S40).
pub(super) fn service(service: &ServiceKey, local_endpoints: usize, proxy_healthy: bool) -> Answer {
    let body = ServiceBody {
        service: ServiceName {
            namespace: &service.namespace,
            name: &service.name,
        },
        local_endpoints,
        service_proxy_healthy: proxy_healthy,
    };
    let mut answer = Answer::json(status(local_endpoints > 0 && proxy_healthy), &body);
    answer.headers.push((WEIGHT, HeaderValue::from(local_endpoints)));
    answer
}

fn status(healthy: bool) -> StatusCode {
    if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn body(health: &Health, now: Now, status: StatusCode, node_eligible: Option<bool>) -> ProxyBody {
    // Who reads it from times when kube-proxy synced all the time: while all is well the last update is now.
    let last_updated = if status == StatusCode::OK {
        Some(now.wall)
    } else {
        health
            .families()
            .filter_map(|(_, family)| family.last_updated())
            .max()
    };
    let status = health.families().map(|(name, family)| {
        let body = FamilyBody {
            last_updated: text(family.last_updated()),
            healthy: family.is_healthy(now.monotonic),
        };
        (name.to_string(), body)
    });
    ProxyBody {
        last_updated: text(last_updated),
        current_time: text(Some(now.wall)),
        node_eligible,
        healthy: health.is_healthy(now),
        status: status.collect(),
    }
}

/// RFC 3339. A time that no calendar has is no time.
fn text(time: Option<SystemTime>) -> String {
    time.and_then(|time| Timestamp::try_from(time).ok())
        .map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use serde_json::{Value, json};

    use super::*;
    use crate::model::IpFamily::{V4, V6};

    fn parts(answer: &Answer) -> (u16, Value) {
        (
            answer.status.as_u16(),
            serde_json::from_str(&answer.body).unwrap(),
        )
    }

    fn clock() -> impl Fn(u64) -> Now {
        let start = Instant::now();
        move |seconds| Now {
            monotonic: start + Duration::from_secs(seconds),
            wall: UNIX_EPOCH + Duration::from_millis(1_700_000_000_500 + seconds * 1000),
        }
    }

    /// S41.
    #[test]
    fn a_healthy_node_says_so_with_the_time_of_asking() {
        let at = clock();
        let mut health = Health::new(false);
        health.applied(V4, at(0));
        health.applied(V6, at(1));
        let now = "2023-11-14T22:13:25.5Z";
        let status = json!({
            "IPv4": {"lastUpdated": "2023-11-14T22:13:20.5Z", "healthy": true},
            "IPv6": {"lastUpdated": "2023-11-14T22:13:21.5Z", "healthy": true},
        });
        let mut expected = json!({
            "lastUpdated": now, "currentTime": now, "nodeEligible": true, "healthy": true, "status": status,
        });
        assert_eq!(parts(&healthz(&health, at(5))), (200, expected.clone()));
        expected.as_object_mut().unwrap().remove("nodeEligible");
        assert_eq!(parts(&livez(&health, at(5))), (200, expected));
    }

    /// S41.
    #[test]
    fn what_waits_for_too_long_shows_in_both_and_in_its_family() {
        let at = clock();
        let mut health = Health::new(false);
        health.applied(V4, at(0));
        health.applied(V6, at(1));
        health.waits(V4, at(2));
        for answer in [healthz(&health, at(62)), livez(&health, at(62))] {
            let (status, body) = parts(&answer);
            assert_eq!((status, &body["healthy"]), (503, &json!(false)));
            assert_eq!(
                body["lastUpdated"], "2023-11-14T22:13:21.5Z",
                "the latest of both"
            );
            assert_eq!(body["status"]["IPv4"]["healthy"], false);
            assert_eq!(body["status"]["IPv6"]["healthy"], true);
        }
    }

    /// S41.
    #[test]
    fn a_node_on_its_way_out_is_left_by_load_balancers_and_not_killed() {
        let at = clock();
        let mut health = Health::new(true);
        health.set_node_eligible(false);
        let (status, body) = parts(&healthz(&health, at(0)));
        assert_eq!(
            (status, &body["nodeEligible"], &body["healthy"]),
            (503, &json!(false), &json!(true))
        );
        assert_eq!(body["lastUpdated"], NEVER);
        assert_eq!(livez(&health, at(0)).status, StatusCode::OK);
    }

    /// S40.
    #[test]
    fn a_service_answers_by_its_endpoints_here_and_the_proxys_health() {
        let key = ServiceKey::new("shop", "web");
        for (endpoints, healthy, status) in [(2, true, 200), (0, true, 503), (2, false, 503), (0, false, 503)]
        {
            let answer = service(&key, endpoints, healthy);
            let expected = json!({
                "service": {"namespace": "shop", "name": "web"},
                "localEndpoints": endpoints,
                "serviceProxyHealthy": healthy,
            });
            assert_eq!(parts(&answer), (status, expected), "{endpoints} {healthy}");
            assert_eq!(answer.content_type, "application/json");
            let headers: Vec<_> = answer
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            let weight = format!("x-load-balancing-endpoint-weight: {endpoints}");
            assert_eq!(headers, ["x-content-type-options: nosniff", weight.as_str()]);
        }
    }
}
