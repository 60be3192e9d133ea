//! An API server that is away, while agents run, while they are killed, and when they come back.

use std::time::Duration;

use lab::cluster_lab::{Service, Shape};
use lab::server::Protocol;

use crate::site::{PATIENCE, Site, check_all, check_loads, wait_calls};

/// What an agent says when nobody listens where the API server should be.
const AWAY: &str = "Is it running, and reachable from this node?";
/// How long it may take to say so.
const NOTICED: Duration = Duration::from_secs(30);

fn a_thousand_connections_live_on_while_the_api_server_is_away(shape: Shape) {
    let mut site = Site::start(shape.on_kube());
    let [new, late] = [Service::new("new", 3), Service::new("late", 4)];
    let endpoints = site.endpoints();
    let mut crowds = site.crowds();
    let loads = site.loads();
    check_all(&mut crowds, "before anything happened");

    site.lab.api().stop();
    check_all(&mut crowds, "while the API server was away");
    wait_calls(&loads);
    site.kill_agents();
    // Nobody is there to see it: to be pruned, and to be added, when all inputs are in (S11).
    site.lab.remove(&site.gone).unwrap();
    site.lab.write(&new, &endpoints).unwrap();
    check_all(&mut crowds, "while neither agent nor API server was there");
    wait_calls(&loads);

    site.restart_agents();
    for node in 0..2 {
        site.lab.agent(node).wait_log(AWAY, NOTICED).unwrap();
    }
    check_all(&mut crowds, "with agents that do not reach the API server");
    wait_calls(&loads);
    site.check_serving(&site.gone, true);
    site.check_serving(&new, false);

    site.lab.api().restart().unwrap();
    site.wait_ready();
    site.wait_serving(&site.gone, false);
    site.lab.wait_endpoints(&new, &endpoints).unwrap();
    check_called(&site, &new);
    check_all(
        &mut crowds,
        "after the API server came back to agents that had not seen it",
    );
    wait_calls(&loads);

    // Away once more, for agents that run.
    site.lab.api().stop();
    site.lab.remove(&new).unwrap();
    site.lab.write(&late, &endpoints).unwrap();
    for node in 0..2 {
        site.lab.agent(node).wait_log(AWAY, NOTICED).unwrap();
    }
    wait_calls(&loads);
    site.check_serving(&new, true);
    site.lab.api().restart().unwrap();
    site.wait_serving(&new, false);
    site.lab.wait_endpoints(&late, &endpoints).unwrap();
    check_called(&site, &late);
    check_all(
        &mut crowds,
        "after the API server came back to agents that knew it",
    );
    wait_calls(&loads);
    check_loads(loads);
}

/// A Service is served to clients outside and to pods.
fn check_called(site: &Site, service: &Service) {
    for caller in [site.lab.client(), site.lab.pod_caller(1)] {
        for v6 in [false, true] {
            let outcome = caller
                .clone()
                .patience(PATIENCE)
                .call(Protocol::Tcp, service.cluster_ip(v6));
            assert!(outcome.by().is_some(), "{}: {outcome}", service.name());
        }
    }
}

mod heavy {
    use super::*;

    #[test]
    fn a_thousand_connections_live_on_with_native_xdp() {
        a_thousand_connections_live_on_while_the_api_server_is_away(Shape::NATIVE);
    }

    #[test]
    fn a_thousand_connections_live_on_with_tc_alone() {
        a_thousand_connections_live_on_while_the_api_server_is_away(Shape::AUTO);
    }
}
