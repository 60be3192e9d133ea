//! What is read, what is refused and in which words, and which server is used.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;

use super::credentials::Target;
use super::token::TokenFile;
use super::*;

/// A directory as Kubernetes mounts it, with a CA of its own.
fn service_account() -> (TempDir, ServiceAccount) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("token"), "first").unwrap();
    fs::write(directory.path().join("ca.crt"), certificate_and_key().0).unwrap();
    let account = ServiceAccount {
        directory: directory.path().to_owned(),
        host: Some("10.96.0.1".to_owned()),
        port: Some("443".to_owned()),
    };
    (directory, account)
}

/// No pod: no token, no environment.
fn no_account(directory: &Path) -> ServiceAccount {
    ServiceAccount {
        directory: directory.join("nowhere"),
        host: None,
        port: None,
    }
}

/// A self-signed certificate, good as a CA and as a client's, and its key, in PEM.
fn certificate_and_key() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn servers(urls: &[&str]) -> Vec<http::Uri> {
    urls.iter().map(|url| url.parse().unwrap()).collect()
}

/// A kubeconfig whose `cluster` and `user` are given as YAML flow mappings.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: one, user: me}}}}]
clusters: [{{name: one, cluster: {cluster}}}]
users: [{{name: me, user: {user}}}]
"
    )
}

/// What is read from a kubeconfig of this text, in a directory with `ca.crt`, `client.crt`, `client.key`, `token` and `empty`.
fn read(text: &str, servers: &[&str]) -> Result<Target, String> {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate_and_key();
    for (name, content) in [
        ("config", text),
        ("ca.crt", &certificate),
        ("client.crt", &certificate),
        ("client.key", &key),
        ("token", "secret\n"),
        ("empty", ""),
    ] {
        fs::write(directory.path().join(name), content).unwrap();
    }
    let access = Access {
        kubeconfig: Some(directory.path().join("config")),
        servers: self::servers(servers),
    };
    let target = credentials::read(&access, access.servers.first(), &no_account(directory.path()))
        .and_then(|target| client::check(&target).map(|()| target));
    target.map_err(|error| {
        error
            .to_string()
            .replace(&format!("{}/", directory.path().display()), "DIR/")
    })
}

#[test]
fn a_kubeconfig_says_where_the_server_is_and_who_we_are() {
    for (user, token_file) in [
        ("{token: secret}", false),
        ("{tokenFile: token}", true),
        ("{token: old, tokenFile: token}", true),
        ("{client-certificate: client.crt, client-key: client.key}", false),
    ] {
        let text = kubeconfig(
            "{server: 'https://192.0.2.1:6443', certificate-authority: ca.crt}",
            user,
        );
        let target = read(&text, &[]).expect(user);
        assert_eq!(target.config.cluster_url, "https://192.0.2.1:6443/");
        assert_eq!(target.token_file.is_some(), token_file, "{user}");
        assert!(target.config.auth_info.token.is_none() || !token_file, "{user}");
        assert_eq!(
            target.config.root_cert.map(|certificates| certificates.len()),
            Some(1)
        );
    }
}

#[test]
fn a_server_that_is_given_replaces_the_kubeconfigs_and_nothing_else() {
    let text = kubeconfig(
        "{server: 'https://10.96.0.1', certificate-authority: ca.crt, tls-server-name: kubernetes}",
        "{token: secret}",
    );
    let target = read(&text, &["https://192.0.2.1:6443"]).unwrap();
    assert_eq!(target.config.cluster_url, "https://192.0.2.1:6443/");
    assert_eq!(target.config.tls_server_name.as_deref(), Some("kubernetes"));
    assert!(target.config.root_cert.is_some() && target.config.auth_info.token.is_some());
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_refused_with_the_reason() {
    let tls = "{server: 'https://a', certificate-authority: ca.crt}";
    let cases: &[(&str, &str)] = &[
        ("]", "kubeconfig DIR/config: failed to parse"),
        (
            &kubeconfig(tls, "{}").replace("current-context: here", ""),
            "kubeconfig DIR/config: current-context is not set",
        ),
        (
            &kubeconfig(tls, "{}").replace("current-context: here", "current-context: there"),
            "kubeconfig DIR/config: current-context: there is no context \"there\"",
        ),
        (
            &kubeconfig(tls, "{}").replace("cluster: one", "cluster: two"),
            "kubeconfig DIR/config: there is no cluster \"two\"",
        ),
        (
            &kubeconfig("{server: 'https://me:secret@a'}", "{}"),
            "kubeconfig DIR/config: server: a user in the URL is not used",
        ),
        (
            &kubeconfig("{certificate-authority: ca.crt}", "{}"),
            "kubeconfig DIR/config: the cluster has no server",
        ),
        (
            &kubeconfig("{server: 'https://a', certificate-authority: gone.crt}", "{}"),
            "kubeconfig DIR/config: failed to load certificate authority: ",
        ),
        (
            &kubeconfig("{server: 'https://a', certificate-authority: empty}", "{}"),
            "kubeconfig DIR/config: certificate-authority holds no certificate",
        ),
        (
            &kubeconfig("{server: 'https://a', certificate-authority-data: '#'}", "{}"),
            "kubeconfig DIR/config: failed to load certificate authority: ",
        ),
        (
            &kubeconfig("{server: 'https://a', certificate-authority: client.key}", "{}"),
            "kubeconfig DIR/config: certificate-authority holds no certificate",
        ),
        (
            &kubeconfig("{server: 'https://a', proxy-url: 'http://proxy:3128'}", "{}"),
            "kubeconfig DIR/config: cluster one: proxy-url is not supported: ",
        ),
        (
            &kubeconfig(
                tls,
                "{exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}}",
            ),
            "kubeconfig DIR/config: the user's credentials come from a program (exec), which is not supported: ",
        ),
        (
            &kubeconfig(tls, "{auth-provider: {name: oidc, config: {}}}"),
            "kubeconfig DIR/config: the user's credentials come from a program (auth-provider), which is not supported: ",
        ),
        (
            &kubeconfig(tls, "{client-certificate: client.crt}"),
            "certificates for https://a/: ",
        ),
        (
            &kubeconfig(tls, "{client-certificate: client.crt, client-key: ca.crt}"),
            "certificates for https://a/: ",
        ),
        (
            &kubeconfig(tls, "{tokenFile: gone}"),
            "token DIR/gone: cannot be read: No such file",
        ),
        (
            &kubeconfig(tls, "{tokenFile: empty}"),
            "token DIR/empty: is empty",
        ),
        (
            &kubeconfig(tls, "{tokenFile: client.key}"),
            "token DIR/client.key: is no token",
        ),
    ];
    for (text, expected) in cases {
        let refusal = read(text, &[]).expect_err(text);
        assert!(refusal.starts_with(expected), "{refusal}\ninstead of\n{expected}");
    }
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named_once() {
    let access = Access {
        kubeconfig: Some("/nonexistent/config".into()),
        ..Access::default()
    };
    assert_eq!(
        access.check().unwrap_err().to_string(),
        "kubeconfig /nonexistent/config: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn secrets_are_not_sent_in_clear_text_to_other_hosts() {
    let refused = "a token or password is not sent without TLS to another host";
    for (url, user, allowed) in [
        ("http://192.0.2.1:8080", "{token: secret}", false),
        ("http://192.0.2.1:8080", "{tokenFile: token}", false),
        ("http://192.0.2.1:8080", "{username: me, password: secret}", false),
        ("http://[2001:db8::1]:8080", "{token: secret}", false),
        ("http://192.0.2.1:8080", "{}", true),
        ("http://127.0.0.1:8080", "{token: secret}", true),
        ("http://[::1]:8080", "{token: secret}", true),
        ("http://localhost:8080", "{token: secret}", true),
    ] {
        for (in_file, flag) in [(url, None), ("https://a", Some(url))] {
            let text = kubeconfig(
                &format!("{{server: '{in_file}', certificate-authority: ca.crt}}"),
                user,
            );
            match read(&text, flag.as_slice()) {
                Ok(_) => assert!(allowed, "{url} {user}"),
                Err(refusal) => assert!(!allowed && refusal.contains(refused), "{url} {user}: {refusal}"),
            }
        }
    }
}

#[test]
fn a_pod_has_its_service_account_and_the_server_of_its_environment() {
    let (_directory, account) = service_account();
    for (host, url) in [
        ("10.96.0.1", "https://10.96.0.1:443/"),
        ("fd00:10:96::1", "https://[fd00:10:96::1]:443/"),
        ("api.internal", "https://api.internal:443/"),
    ] {
        let account = ServiceAccount {
            host: Some(host.to_owned()),
            ..account.clone()
        };
        let target = credentials::read(&Access::default(), None, &account).unwrap();
        client::check(&target).unwrap();
        assert_eq!(target.config.cluster_url, url);
        assert!(target.token_file.is_some());
    }
}

#[test]
fn a_server_that_is_given_needs_no_environment() {
    let (_directory, account) = service_account();
    let account = ServiceAccount {
        host: None,
        port: None,
        ..account
    };
    let server = "https://192.0.2.1:6443".parse().unwrap();
    let target = credentials::read(&Access::default(), Some(&server), &account).unwrap();
    client::check(&target).unwrap();
    assert_eq!(target.config.cluster_url, server);
}

#[test]
fn without_credentials_or_server_the_remedy_is_said() {
    let (directory, account) = service_account();
    let read = |account: &ServiceAccount| {
        let target = credentials::read(&Access::default(), None, account)?;
        client::check(&target)
    };
    let refusal = read(&no_account(directory.path())).unwrap_err().to_string();
    assert!(
        refusal.contains("--kubeconfig") && refusal.contains("service account"),
        "{refusal}"
    );
    let homeless = ServiceAccount {
        host: None,
        ..account.clone()
    };
    let refusal = read(&homeless).unwrap_err().to_string();
    assert!(
        refusal.contains("KUBERNETES_SERVICE_HOST") && refusal.contains("--api-server"),
        "{refusal}"
    );
    fs::write(directory.path().join("ca.crt"), "nonsense").unwrap();
    let refusal = read(&account).unwrap_err().to_string();
    assert!(
        refusal.starts_with("certificates for https://10.96.0.1:443/: "),
        "{refusal}"
    );
}

#[test]
fn an_address_in_the_environment_is_taken_for_a_service() {
    for (host, expected) in [
        (Some("10.96.0.1"), true),
        (Some("fd00:10:96::1"), true),
        (Some("127.0.0.1"), false),
        (Some("api.internal"), false),
        (None, false),
    ] {
        let account = ServiceAccount {
            host: host.map(str::to_owned),
            ..no_account(Path::new("/"))
        };
        assert_eq!(account.is_cluster_ip(), expected, "{host:?}");
    }
}

#[test]
fn a_token_is_read_for_every_request_and_kept_when_it_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "first\n").unwrap();
    let token = TokenFile::open(path.clone()).unwrap();
    let sent = || {
        let request = token.authorize(http::Request::new(()));
        let header = &request.headers()[http::header::AUTHORIZATION];
        assert!(header.is_sensitive());
        header.to_str().unwrap().to_owned()
    };
    assert_eq!(sent(), "Bearer first");
    fs::write(&path, "second").unwrap();
    assert_eq!(sent(), "Bearer second");
    fs::write(&path, "").unwrap();
    assert_eq!(sent(), "Bearer second");
    fs::remove_file(&path).unwrap();
    assert_eq!(sent(), "Bearer second");
}

fn in_use(servers: &Servers) -> &str {
    servers.name(servers.current().0)
}

/// Three servers, this one first.
fn three(first: usize) -> (TempDir, Servers) {
    let (directory, account) = service_account();
    let access = Access {
        kubeconfig: None,
        servers: servers(&["https://a", "https://b", "https://c"]),
    };
    (
        directory,
        Servers::connect_from(first, &access, &account).unwrap(),
    )
}

#[tokio::test]
async fn a_server_that_fails_is_left_once_however_many_notice() {
    let (_directory, servers) = three(1);
    assert_eq!(in_use(&servers), "https://b/");
    let (id, _) = servers.current();
    assert!(!servers.failed(id));
    assert!(!servers.failed(id), "somebody else saw it first");
    assert_eq!(in_use(&servers), "https://c/");
}

#[tokio::test]
async fn it_is_time_to_wait_when_all_have_failed() {
    let (_directory, servers) = three(0);
    let fail = || servers.failed(servers.current().0);
    // Two rounds.
    assert_eq!([fail(), fail(), fail()], [false, false, true]);
    assert_eq!([fail(), fail(), fail()], [false, false, true]);
    // One that worked starts the count again.
    assert!(!fail());
    servers.worked(servers.current().0);
    assert_eq!([fail(), fail(), fail()], [false, false, true]);
}

#[tokio::test]
async fn who_comes_late_waits_with_the_others() {
    let (_directory, servers) = three(0);
    let mut last = servers.current().0;
    for _ in 0..3 {
        last = servers.current().0;
        servers.failed(last);
    }
    assert!(servers.failed(last), "the round is over");
    servers.worked(last);
    assert!(servers.failed(last), "what worked is not in use any more");
}

#[tokio::test]
async fn a_single_server_is_taken_again_and_waited_for() {
    let (_directory, account) = service_account();
    let servers = Servers::connect_from(0, &Access::default(), &account).unwrap();
    let (id, _) = servers.current();
    assert!(servers.failed(id));
    assert_ne!(servers.current().0, id, "the connection is a new one");
    assert!(servers.failed(servers.current().0));
}

/// A volume that is unmounted, or half written, must not leave the agent without a client.
#[tokio::test]
async fn credentials_that_are_gone_leave_the_last_ones_in_force() {
    let (directory, servers) = three(0);
    drop(directory);
    servers.failed(servers.current().0);
    assert_eq!(in_use(&servers), "https://b/");
}
