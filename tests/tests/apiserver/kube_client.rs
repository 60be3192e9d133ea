//! The real client believes it.

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use lab::apiserver::{ApiServer, Authority, Kind, Recording};

async fn client(kubeconfig: lab::apiserver::Kubeconfig) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    kubeconfig.write(&path).unwrap();
    let kubeconfig = Kubeconfig::read_from(&path).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
async fn kube_lists_and_watches_over_tls_with_a_token() {
    let recording = Recording::load().unwrap();
    let server = ApiServer::builder()
        .tls(&Authority::new().unwrap())
        .tokens(["secret"])
        .start()
        .unwrap();
    recording.restore(server.store());
    let services: Api<Service> = Api::all(client(server.kubeconfig().token("secret")).await);

    let list = services
        .list(&ListParams::default().labels("!service.kubernetes.io/service-proxy-name"))
        .await
        .unwrap();
    assert_eq!(list.items.len(), 14);
    let version = list.metadata.resource_version.unwrap();
    assert_eq!(version, "362");

    let params = WatchParams::default().labels("!service.kubernetes.io/service-proxy-name");
    let mut watch = Box::pin(services.watch(&params, &version).await.unwrap());
    recording.steps()[0].play(server.store());
    match watch.try_next().await.unwrap().unwrap() {
        WatchEvent::Added(service) => assert_eq!(service.metadata.name.as_deref(), Some("roll")),
        other => panic!("{other:?}"),
    }

    let [list, watch] = server.requests().try_into().unwrap();
    assert_eq!((list.kind, list.verb), (Kind::List, "list"));
    assert_eq!((watch.kind, watch.verb), (Kind::Watch, "watch"));
    assert_eq!(watch.param("resourceVersion"), Some("362"));
    assert_eq!(watch.token.as_deref(), Some("secret"));
}

#[tokio::test]
async fn kube_reads_refusals_as_what_they_are() {
    let server = ApiServer::builder().tokens(["new"]).start().unwrap();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "old").unwrap();
    let kubeconfig = server.kubeconfig().token_file(token.path());
    let services: Api<Service> = Api::namespaced(client(kubeconfig).await, "t");
    let Err(kube::Error::Api(status)) = services.get("nope").await else {
        panic!("an old token is refused");
    };
    assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));

    server.accept_tokens(["old", "new"]);
    let Err(kube::Error::Api(status)) = services.get("nope").await else {
        panic!("there is no such Service");
    };
    assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
}
