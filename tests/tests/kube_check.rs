//! `xvip check` of a cluster: what it says, how it ends, and that it leaves no trace.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use lab::agent;
use lab::apiserver::{ApiServer, Authority};
use serde_json::{Value, json};

/// Runs `xvip check` with a proxy in the environment that must not be asked.
fn check(arguments: &[&str]) -> Output {
    Command::new(agent::binary().unwrap())
        .arg("check")
        .args(arguments)
        .env("HTTPS_PROXY", "no proxy at all")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap()
}

fn with_kubeconfig(path: &Path, arguments: &[&str]) -> Output {
    check(&[&["--kubeconfig", path.to_str().unwrap()], arguments].concat())
}

fn text(bytes: &[u8]) -> String {
    // Tables are aligned; the words matter.
    let lines = String::from_utf8_lossy(bytes);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.lines().map(|line| words(line) + "\n").collect()
}

fn service(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name}, "spec": spec,
    })
}

/// A cluster with one good Service, one with a part that is ignored, and nodes in two zones.
fn cluster() -> ApiServer {
    let server = ApiServer::builder()
        .tls(&Authority::new().unwrap())
        .tokens(["secret"])
        .start()
        .unwrap();
    let store = server.store();
    store.apply(service(
        "web",
        &json!({
            "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
            "externalIPs": ["198.51.100.7", "nonsense"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        }),
    ));
    store.apply(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "hints": {"forZones": [{"name": "a"}]}},
            {"addresses": ["10.0.1.2"], "conditions": {"ready": true}, "hints": {"forZones": [{"name": "b"}]}},
        ],
    }));
    store.apply(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "here", "labels": {"topology.kubernetes.io/zone": "b"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]},
    }));
    server
}

#[test]
fn a_cluster_is_planned_for_this_node() {
    let server = cluster();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    server.kubeconfig().token("secret").write(&config).unwrap();

    let output = with_kubeconfig(&config, &["--hostname-override", "here", "-o", "wide"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "Service shop/web: warning: spec.externalIPs[1]: ignored: \"nonsense\" is not a valid IP address\n\
         \n\
         Would be programmed:\n\
         SERVICE FRONTEND INSIDE OUTSIDE INSIDE ENDPOINTS OUTSIDE ENDPOINTS SOURCES\n\
         shop/web:http (80 TCP, IPv4) 10.96.0.10:80/TCP 1 1 10.0.1.2:8080 10.0.1.2:8080 any\n\
         shop/web:http (80 TCP, IPv4) 198.51.100.7:80/TCP 1 1 10.0.1.2:8080 10.0.1.2:8080 any\n",
    );
    assert!(output.stderr.is_empty(), "no terminal, no progress");
    for request in server.requests() {
        assert_eq!(
            (request.verb, request.method.as_str()),
            ("list", "GET"),
            "{request}"
        );
    }
}

#[test]
fn a_refused_object_and_a_missing_node_are_told_and_refuse() {
    let server = cluster();
    server.store().apply(service(
        "broken",
        &json!({"type": "ClusterIP", "clusterIP": "nonsense", "clusterIPs": ["nonsense"], "ports": [{"port": 80}]}),
    ));
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    server.kubeconfig().token("secret").write(&config).unwrap();

    let output = with_kubeconfig(&config, &["--hostname-override", "elsewhere"]);
    assert_eq!(output.status.code(), Some(2));
    let (lines, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(lines.contains("Service shop/broken: refused: "), "{lines}");
    assert!(
        lines.contains("Node elsewhere: warning: there is none of this name"),
        "{lines}"
    );
    assert_eq!(errors, "xvip: 1 object refused\n");
}

#[test]
fn servers_that_do_not_answer_are_all_named() {
    // Ports that nobody listens on.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = [free(), free()].map(|address| format!("https://{address}"));
    let server = cluster();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    server.kubeconfig().token("secret").write(&config).unwrap();

    let output = with_kubeconfig(&config, &["--api-server", &urls.join(",")]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    for url in &urls {
        assert!(errors.contains(&format!("{url}/: no connection: ")), "{errors}");
    }
    assert!(
        errors.contains("Connection refused") && output.stdout.is_empty(),
        "{errors}"
    );

    // With one that does, the others do not matter.
    let output = with_kubeconfig(
        &config,
        &["--api-server", &format!("{},{}", urls[0], server.url())],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_servers_no_is_told_in_its_words() {
    let server = cluster();
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config");
    server.kubeconfig().token("stale").write(&config).unwrap();
    let output = with_kubeconfig(&config, &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains(": 401 Unauthorized"), "{errors}");
}

/// The files where the kubelet puts them, in a mount namespace that nobody else sees, and the two variables of every pod.
#[test]
fn in_a_pod_the_service_account_is_enough() {
    let server = cluster();
    let account = tempfile::tempdir().unwrap();
    let file = |name| account.path().join(name);
    fs::write(file("ca.crt"), server.authority().unwrap().pem()).unwrap();
    let in_a_pod = |token: &str| {
        fs::write(file("token"), token).unwrap();
        let mounted = "mount -t tmpfs tmpfs /run && mkdir -p /var/run/secrets/kubernetes.io && \
            ln -s \"$1\" /var/run/secrets/kubernetes.io/serviceaccount && shift && exec \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", mounted, "sh"])
            .arg(account.path())
            .arg(agent::binary().unwrap())
            .args(["check", "--hostname-override", "here"])
            .env("KUBERNETES_SERVICE_HOST", server.address().ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", server.address().port().to_string())
            .output()
            .unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = in_a_pod("secret\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("shop/web:http (80 TCP, IPv4) 10.96.0.10:80/TCP 1 1"),
        "{said}"
    );
    let (code, said) = in_a_pod("another");
    assert!(code == Some(1) && said.contains("401"), "{said}");
}

#[test]
fn without_credentials_nothing_is_tried() {
    let output = check(&["--api-server", "https://192.0.2.1:6443"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("--kubeconfig FILE") && errors.contains("service account"),
        "{errors}"
    );
}
