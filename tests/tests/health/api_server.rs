//! Health on a node of a real cluster: its Node object is watched, and the API server may be away.

use std::net::TcpListener;

use lab::apiserver::Resource;
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::poll;
use serde_json::json;

use crate::http::{self, Response};
use crate::site::{CHECK_PORT, HEALTH_PORT, LIMIT};

const SHAPE: Shape = Shape {
    nodes: 1,
    ..Shape::NATIVE.on_kube()
};

fn lab_with(service: &Service) -> ClusterLab {
    let mut lab = ClusterLab::build(SHAPE).unwrap();
    lab.add_pod(0, "web").unwrap();
    lab.write(service, &[lab.endpoint(0)]).unwrap();
    lab
}

fn ask(lab: &ClusterLab, port: u16, path: &str) -> Result<Response, String> {
    let to = (lab.topology().node(0).address(false), port).into();
    http::get(lab.topology().client().ns(), to, path).map_err(|error| format!("{error:#}"))
}

fn ask_until(lab: &ClusterLab, path: &str, status: u16) -> Response {
    let answer = poll::until(&format!("{status} of {path}"), LIMIT, || {
        match ask(lab, HEALTH_PORT, path)? {
            response if response.status == status => Ok(response),
            other => Err(format!("{other:?}")),
        }
    });
    answer.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.agent(0).log()))
}

/// S41.
#[test]
fn a_node_that_is_unknown_or_being_deleted_is_left_by_load_balancers() {
    let mut lab = lab_with(&Service::new("web", 1));
    lab.start_agents(&[]).unwrap();
    ask_until(&lab, "/healthz", 200);
    let store = lab.api().store();
    let node = store.get(Resource::Nodes, None, "node0").unwrap();
    let mut leaving = node.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z");
    store.apply(leaving);
    assert_eq!(ask_until(&lab, "/healthz", 503).json()["nodeEligible"], false);
    assert_eq!(ask(&lab, HEALTH_PORT, "/livez").unwrap().status, 200);
    store.delete(Resource::Nodes, None, "node0");
    store.apply(node);
    ask_until(&lab, "/healthz", 200);
    store.delete(Resource::Nodes, None, "node0");
    assert_eq!(ask_until(&lab, "/healthz", 503).json()["nodeEligible"], false);
    assert_eq!(ask(&lab, HEALTH_PORT, "/livez").unwrap().status, 200);
}

/// S41.
#[test]
fn an_api_server_that_is_away_makes_nobody_unhealthy_not_even_at_a_restart() {
    let mut lab = lab_with(&Service::new("web", 1));
    lab.start_agents(&[]).unwrap();
    ask_until(&lab, "/healthz", 200);
    lab.api().stop();
    lab.agent_mut(0).restart().unwrap();
    let first = poll::until("somebody listens", LIMIT, || ask(&lab, HEALTH_PORT, "/healthz")).unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    // Past the loading of the programs: the agent waits for its lists.
    lab.agent(0).wait_log("metrics: listening", LIMIT).unwrap();
    for path in ["/healthz", "/livez"] {
        let answer = ask(&lab, HEALTH_PORT, path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    lab.api().restart().unwrap();
    lab.agent_mut(0).wait_ready().unwrap();
    ask_until(&lab, "/healthz", 200);
}

/// S41.
#[test]
fn an_empty_node_is_unhealthy_while_the_api_server_is_away() {
    let mut lab = lab_with(&Service::new("web", 1));
    lab.start_agents(&[]).unwrap();
    lab.agent_mut(0).stop().unwrap();
    let state = lab.state();
    let cleanup = ["cleanup", "--state-dir", state.to_str().unwrap()];
    lab.agent(0).xvip(&cleanup).unwrap();
    lab.api().stop();
    lab.agent_mut(0).restart().unwrap();
    lab.agent(0).wait_log("metrics: listening", LIMIT).unwrap();
    for path in ["/healthz", "/livez"] {
        assert_eq!(ask(&lab, HEALTH_PORT, path).unwrap().status, 503, "{path}");
    }
    lab.api().restart().unwrap();
    lab.agent_mut(0).wait_ready().unwrap();
    ask_until(&lab, "/healthz", 200);
}

/// S40.
#[test]
fn a_health_check_port_that_is_taken_is_told_to_the_services_owner() {
    let service = Service::new("web", 1)
        .with_load_balancer()
        .field("externalTrafficPolicy: Local")
        .field(&format!("healthCheckNodePort: {CHECK_PORT}"));
    let mut lab = lab_with(&service);
    let holder = lab
        .topology()
        .node(0)
        .ns()
        .run(|| TcpListener::bind(("0.0.0.0", CHECK_PORT)))
        .unwrap();
    lab.start_agents(&[]).unwrap();
    let told = poll::until("an Event about the port", LIMIT, || {
        let events = lab.api().store().list(Resource::Events);
        let own = events
            .iter()
            .find(|event| event["reason"] == "FailedToStartServiceHealthcheck");
        own.cloned().ok_or_else(|| format!("{events:?}"))
    });
    let told = told.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.agent(0).log()));
    assert_eq!(told["regarding"]["name"], "web");
    assert_eq!(told["type"], "Warning");
    drop(holder);
    let answer = poll::until("the health check", LIMIT, || match ask(&lab, CHECK_PORT, "/")? {
        response if response.status == 200 => Ok(response),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(answer.unwrap().json()["localEndpoints"], 1);
}
