//! The source under test, and the cluster as its updates tell it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lab::apiserver::{ApiServer, Kind, Kubeconfig, Request, Resource};
use lb_userspace::model::{EndpointSlice, Node, Service, Update};
use lb_userspace::source::Source;
use lb_userspace::source::kube::{Access, Config, spawn};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// More than anything takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "node1";
const KUBECONFIG: &str = "kubeconfig";

/// A running source. It is ended on drop.
pub(crate) struct Watched {
    runtime: Runtime,
    source: Source,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) slices: BTreeMap<String, EndpointSlice>,
    pub(crate) node: Option<Node>,
    /// The first lists are complete.
    pub(crate) done: bool,
    /// Objects told of, new or changed.
    pub(crate) told: usize,
    /// They are read anew when a server fails.
    credentials: TempDir,
    _cancel: DropGuard,
}

impl Watched {
    /// Begins to watch these servers.
    pub(crate) fn new(servers: &[&ApiServer]) -> Self {
        let runtime = Runtime::new().unwrap();
        let cancel = CancellationToken::new();
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = dir.path().join(KUBECONFIG);
        Kubeconfig::new(&servers[0].url()).write(&kubeconfig).unwrap();
        let servers = servers.iter().map(|server| server.url().parse().unwrap());
        let config = Config {
            access: Access {
                kubeconfig: Some(kubeconfig),
                servers: servers.collect(),
            },
            node_name: NODE.to_owned(),
        };
        let source = {
            let _inside = runtime.enter();
            spawn(config, cancel.clone()).unwrap()
        };
        Self {
            runtime,
            source,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            node: None,
            done: false,
            told: 0,
            credentials: dir,
            _cancel: cancel.drop_guard(),
        }
    }

    /// As [`Watched::new`], and the first lists are in.
    pub(crate) fn ready(server: &ApiServer) -> Self {
        let mut watched = Self::new(&[server]);
        watched.wait("the first lists", |watched| watched.done);
        watched
    }

    /// The file that says who we are.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.credentials.path().join(KUBECONFIG)
    }

    /// Takes in updates until `reached`.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !reached(self) {
            assert!(
                self.take(deadline),
                "{what}: not within {LIMIT:?}; {}",
                self.summary()
            );
        }
    }

    /// Takes in updates for so long; `holds` after each.
    #[track_caller]
    pub(crate) fn watch_for(&mut self, time: Duration, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + time;
        while self.take(deadline) {
            assert!(holds(self), "{}", self.summary());
        }
    }

    /// The port of a Service, which tells its versions apart.
    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.services.get(name).map(|service| service.ports[0].port)
    }

    fn take(&mut self, deadline: Instant) -> bool {
        let updates = &mut self.source.updates;
        let next = async { tokio::time::timeout_at(deadline.into(), updates.recv()).await };
        let Ok(batch) = self.runtime.block_on(next) else {
            return false;
        };
        for update in batch.expect("the source ended") {
            self.apply(update);
        }
        true
    }

    fn apply(&mut self, update: Update) {
        match update {
            Update::ServiceApplied(service) => {
                self.told += 1;
                self.services.insert(service.key.name.clone(), service);
            }
            Update::ServiceDeleted(key) => {
                assert!(
                    self.services.remove(&key.name).is_some(),
                    "{key} was never told of"
                );
            }
            Update::SliceApplied(slice) => {
                self.told += 1;
                self.slices.insert(slice.key.name.clone(), slice);
            }
            Update::SliceDeleted(key) => {
                assert!(self.slices.remove(&key.name).is_some(), "{key} was never told of");
            }
            Update::NodeApplied(node) => {
                self.told += 1;
                self.node = Some(node);
            }
            Update::NodeDeleted(name) => {
                assert_eq!(self.node.take().map(|node| node.name), Some(name));
            }
            Update::InitialListsDone => {
                assert!(!self.done, "a second time");
                self.done = true;
            }
        }
    }

    fn summary(&self) -> String {
        format!(
            "{} services {:?}…, {} slices, node {}, done {}",
            self.services.len(),
            self.services.keys().take(5).collect::<Vec<_>>(),
            self.slices.len(),
            self.node.is_some(),
            self.done
        )
    }
}

pub(crate) fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
            "ports": [{"port": port, "protocol": "TCP", "targetPort": port}],
        },
    })
}

pub(crate) fn slice(name: &str, of: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.5"], "conditions": {"ready": true}}],
    })
}

pub(crate) fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.9"}]},
    })
}

/// A server with our Node and another, two Services, and a slice.
pub(crate) fn small_cluster() -> ApiServer {
    let server = ApiServer::start().unwrap();
    for object in [
        node(NODE, "a"),
        node("node2", "b"),
        service("web", 80),
        service("api", 81),
        slice("web-1", "web"),
    ] {
        server.store().apply(object);
    }
    server
}

/// The lists and watches of a resource so far, without `resourceVersion` where there was none.
pub(crate) fn asked(server: &ApiServer, resource: Resource) -> Vec<String> {
    let requests = server.requests();
    let of_resource = requests
        .iter()
        .filter(|request| request.served() == Some(resource));
    of_resource.map(describe).collect()
}

fn describe(request: &Request) -> String {
    let way = match (request.kind, request.param("limit")) {
        (Kind::StreamingList, _) => "stream",
        (Kind::Watch, _) => "watch",
        (Kind::List, Some(_)) if request.param("continue").is_some() => "next page",
        (Kind::List, Some(_)) => "page",
        (Kind::List, None) => "list",
        _ => "other",
    };
    let version = request.param("resourceVersion").unwrap_or_default();
    format!("{way} {version}").trim_end().to_owned()
}
