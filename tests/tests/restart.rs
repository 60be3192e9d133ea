//! The datapath without its agent: connections live through its death, its absence and its return, and only `cleanup` ends it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use futures::TryStreamExt;
use lab::client::{Caller, Crowd};
use lab::cluster_lab::{ClusterLab, Service, Shape};
use lab::link::Link;
use lab::load::{Load, Manner};
use lab::poll;
use lab::server::Protocol;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};

const FAMILIES: [bool; 2] = [false, true];
/// For answers while both cores are busy with a thousand connections.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
/// Clients of each load.
const CLIENTS: usize = 4;
/// Calls that each load makes in every phase of a test.
const PHASE: u64 = 100;
const LIMIT: Duration = Duration::from_secs(10);

/// Two nodes with two pods each, and the Services of the tests.
struct Site {
    lab: ClusterLab,
    web: Service,
    gone: Service,
}

impl Site {
    fn start(shape: Shape) -> Self {
        let mut lab = ClusterLab::build(shape).unwrap();
        for (node, name) in [(0, "near-0"), (0, "near-1"), (1, "far-0"), (1, "far-1")] {
            lab.add_pod(node, name).unwrap();
        }
        let (web, gone) = (Service::new("web", 1), Service::new("gone", 2));
        let endpoints: Vec<_> = (0..4).map(|pod| lab.endpoint(pod)).collect();
        lab.write(&web, &endpoints).unwrap();
        lab.write(&gone, &endpoints).unwrap();
        lab.start_agents(&[]).unwrap();
        Self { lab, web, gone }
    }

    /// A thousand connections: of both families, from outside and from a pod, to backends near and far.
    fn crowds(&self) -> Vec<Crowd> {
        let client = self.lab.client().patience(PATIENCE);
        let pod = self.lab.pod_caller(1).patience(PATIENCE);
        let open = |caller: &Caller, to, count| {
            caller
                .crowd(to, count)
                .unwrap_or_else(|error| panic!("{error:#}"))
        };
        FAMILIES
            .into_iter()
            .flat_map(|v6| {
                [
                    open(&client, self.web.cluster_ip(v6), 200),
                    open(&client, self.lab.node_port(0, &self.web, v6), 150),
                    open(&pod, self.web.cluster_ip(v6), 150),
                ]
            })
            .collect()
    }

    /// A connect storm and UDP clients, from outside and from a pod.
    fn loads(&self) -> Vec<Load> {
        let outside: Vec<_> = FAMILIES
            .into_iter()
            .flat_map(|v6| [self.web.cluster_ip(v6), self.lab.node_port(0, &self.web, v6)])
            .collect();
        let inside = FAMILIES.map(|v6| self.web.cluster_ip(v6));
        let callers = [
            (self.lab.topology().client().ns(), &outside[..]),
            (self.lab.pod(1).ns(), &inside),
        ];
        let manners = [Manner::Connections, Manner::Datagrams, Manner::Association];
        callers
            .into_iter()
            .flat_map(|(ns, to)| manners.map(|manner| Load::start(ns, manner, to, CLIENTS).unwrap()))
            .collect()
    }

    /// New connections are served, from outside and from a pod.
    fn check_new_connections(&self, when: &str) {
        for caller in [self.lab.client(), self.lab.pod_caller(1)] {
            let caller = caller.patience(PATIENCE);
            for v6 in FAMILIES {
                for outcome in caller.calls(Protocol::Tcp, self.web.cluster_ip(v6), 16) {
                    assert!(outcome.by().is_some(), "a new connection {when}: {outcome}");
                }
            }
        }
    }

    fn kill_agents(&mut self) {
        for node in 0..2 {
            self.lab.agent_mut(node).kill9().unwrap();
        }
    }

    fn restart_agents(&mut self) {
        for node in 0..2 {
            self.lab.agent_mut(node).restart().unwrap();
        }
        for node in 0..2 {
            self.lab.agent_mut(node).wait_ready().unwrap();
        }
    }

    fn serves_gone(&self, node: usize) -> bool {
        let services = self.lab.agent(node).xvip_json(&["get", "services"]).unwrap();
        let mut rows = services.as_array().into_iter().flatten();
        rows.any(|row| {
            row["service"]
                .as_str()
                .is_some_and(|name| name.starts_with("default/gone"))
        })
    }
}

/// Every connection answers.
fn check_all(crowds: &mut [Crowd], when: &str) {
    let outcomes: Vec<_> = crowds.iter_mut().flat_map(Crowd::exercise).collect();
    let lost: Vec<_> = outcomes.iter().filter(|outcome| outcome.by().is_none()).collect();
    assert!(
        lost.is_empty(),
        "{} of {} connections lost {when}, the first: {}",
        lost.len(),
        outcomes.len(),
        lost[0]
    );
    assert_eq!(outcomes.len(), 1000);
}

/// Each load makes its calls, with things as they are now.
fn wait_calls(loads: &[Load]) {
    loads.iter().for_each(|load| load.wait_calls(PHASE).unwrap());
}

/// Every call of every load was answered.
fn check_loads(loads: Vec<Load>) {
    for load in loads {
        let account = load.stop().unwrap();
        println!("{account}");
        assert!(account.is_faultless(), "{account}");
    }
}

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
    assert!(site.serves_gone(0) && site.serves_gone(1));

    site.restart_agents();
    check_all(&mut crowds, "after the restart");
    wait_calls(&loads);
    for node in 0..2 {
        poll::until("the removed Service pruned", LIMIT, || {
            if site.serves_gone(node) {
                Err("it is there".to_owned())
            } else {
                Ok(())
            }
        })
        .unwrap();
    }
    check_all(&mut crowds, "after pruning");
    check_loads(loads);
}

#[test]
fn a_thousand_connections_live_on_with_native_xdp() {
    a_thousand_connections_live_through_kill_9_and_restart(Shape::NATIVE);
}

#[test]
fn a_thousand_connections_live_on_with_tc_alone() {
    a_thousand_connections_live_through_kill_9_and_restart(Shape::AUTO);
}

/// Whether any program is on a device: native or generic XDP, or tcx on either side.
fn programs(link: &Link) -> Vec<String> {
    let netlink = link.ns().netlink().clone();
    let index = link.index();
    let message = link.ns().block_on(async move {
        netlink
            .link()
            .get()
            .match_index(index)
            .execute()
            .try_next()
            .await
            .unwrap()
            .unwrap()
    });
    let mut found: Vec<String> = message
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => Some(xdp),
            _ => None,
        })
        .flatten()
        .filter(|xdp| matches!(xdp, LinkXdp::Attached(attached) if *attached != XdpAttached::None))
        .map(|xdp| format!("{xdp:?}"))
        .collect();
    for side in [TcAttachType::Ingress, TcAttachType::Egress] {
        let name = link.name().to_owned();
        let (_, there) = link
            .ns()
            .run(move || SchedClassifier::query_tcx(&name, side))
            .unwrap();
        found.extend(
            there
                .iter()
                .map(|program| format!("{side:?} {:?}", program.name_as_str())),
        );
    }
    found
}

/// What is in a directory of pins but the files a BPF file system is born with.
fn pins(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_none_or(|extension| extension != "debug"))
        .map(|path| path.display().to_string())
        .collect()
}

/// S43.
#[test]
fn stopping_changes_nothing_and_cleanup_removes_everything() {
    let mut site = Site::start(Shape::NATIVE);
    let mut connection = site.lab.client().connect(site.web.cluster_ip(false)).unwrap();
    assert!(connection.request().by().is_some());
    let links = [
        site.lab.topology().node(0).host().uplink().clone(),
        site.lab.pod(0).host_end().clone(),
    ];
    let before = links.each_ref().map(programs);
    assert_eq!(before.each_ref().map(Vec::len), [3, 2], "{before:?}");

    site.lab.agent_mut(0).stop().unwrap();
    assert_eq!(links.each_ref().map(programs), before);
    assert!(connection.request().by().is_some());
    site.check_new_connections("after SIGTERM");
    let status = site.lab.agent(0).xvip(&["get", "status"]).unwrap();
    assert!(status.contains("not running"), "{status}");

    let state = site.lab.state();
    let said = site
        .lab
        .agent(0)
        .xvip(&["cleanup", "--state-dir", state.to_str().unwrap()])
        .unwrap();
    assert!(said.contains("detached"), "{said}");
    assert_eq!(
        links.each_ref().map(programs),
        [const { Vec::<String>::new() }; 2]
    );
    assert_eq!(pins(site.lab.agent(0).bpffs()), Vec::<String>::new());
    let outcome = site.lab.client().patience(SHORT).tcp(site.web.cluster_ip(false));
    assert!(outcome.by().is_none(), "nobody serves any more: {outcome}");
    let again = site
        .lab
        .agent(0)
        .xvip(&["cleanup", "--state-dir", state.to_str().unwrap()])
        .unwrap();
    assert!(again.contains("Nothing of xvip"), "{again}");
}
