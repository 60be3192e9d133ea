//! Reading `manifests/base`, strictly: a field no API knows is an error.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Everything in `manifests/base`.
pub(crate) struct Base {
    pub(crate) kustomization: Kustomization,
    pub(crate) config: String,
    pub(crate) account: ServiceAccount,
    pub(crate) role: ClusterRole,
    pub(crate) binding: ClusterRoleBinding,
    pub(crate) daemon_set: DaemonSet,
}

/// `kustomization.yaml`, as much of it as is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are there to be known")]
pub(crate) struct Kustomization {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) resources: Vec<String>,
    pub(crate) config_map_generator: Vec<ConfigMapArgs>,
}

/// A ConfigMap made of files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are there to be known")]
pub(crate) struct ConfigMapArgs {
    pub(crate) name: String,
    pub(crate) files: Vec<String>,
    options: Value,
}

impl Base {
    pub(crate) fn read() -> Self {
        let kustomization: Kustomization =
            serde_saphyr::from_str(&text("kustomization.yaml")).expect("kustomization.yaml");
        let mut objects = BTreeMap::new();
        for file in &kustomization.resources {
            for document in text(file).split("\n---\n") {
                let object: Value = serde_saphyr::from_str(document).expect(file);
                let kind = object["kind"].as_str().expect("a kind").to_owned();
                assert!(objects.insert(kind, object).is_none(), "{file}: one of each kind");
            }
        }
        let base = Self {
            config: text(&kustomization.config_map_generator[0].files[0]),
            kustomization,
            account: take(&mut objects),
            role: take(&mut objects),
            binding: take(&mut objects),
            daemon_set: take(&mut objects),
        };
        assert_eq!(
            objects.keys().collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "not looked at"
        );
        base
    }
}

/// The object of a kind, decoded with no field left over.
fn take<T: DeserializeOwned + k8s_openapi::Resource>(objects: &mut BTreeMap<String, Value>) -> T {
    let object = objects.remove(T::KIND).expect(T::KIND);
    assert_eq!(object["apiVersion"], T::API_VERSION);
    let mut unknown = Vec::new();
    let decoded = serde_ignored::deserialize(object, |path| unknown.push(path.to_string()));
    assert_eq!(unknown, Vec::<String>::new(), "{}: unknown fields", T::KIND);
    decoded.expect(T::KIND)
}

fn text(file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../manifests/base", file]
        .iter()
        .collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
