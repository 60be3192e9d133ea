//! `kill -9` of the agents, their absence, and their return.

use lab::cluster_lab::Shape;

use crate::site::{Site, check_all, check_loads, wait_calls};

/// Each start of the agent draws a hash seed of its own: that of the maps has to win, or no flow would be found again.
fn a_thousand_connections_live_through_kill_9_and_restart(shape: Shape) {
    let mut site = Site::start(shape);
    let mut crowds = site.crowds();
    let loads = site.loads();
    check_all(&mut crowds, "before anything happened");

    site.kill_agents();
    check_all(&mut crowds, "while no agent ran");
    wait_calls(&loads);
    let flows = site.lab.agent(0).xvip_json(&["get", "flows"]).unwrap();
    let live = flows.as_array().map_or(0, Vec::len);
    assert!(
        live >= 1000,
        "`xvip get flows` without an agent shows {live} connections"
    );
    // What goes meanwhile is pruned on return (S11: not before all inputs are in).
    site.lab.remove(&site.gone).unwrap();
    site.check_serving(&site.gone, true);

    site.restart_agents();
    site.wait_ready();
    check_all(&mut crowds, "after the restart");
    wait_calls(&loads);
    site.wait_serving(&site.gone, false);
    check_all(&mut crowds, "after pruning");
    check_loads(loads);
}

mod heavy {
    use super::*;

    #[test]
    fn a_thousand_connections_live_on_with_native_xdp() {
        a_thousand_connections_live_through_kill_9_and_restart(Shape::NATIVE);
    }

    #[test]
    fn a_thousand_connections_live_on_with_tc_alone() {
        a_thousand_connections_live_through_kill_9_and_restart(Shape::AUTO);
    }
}
