//! Lists and their pages: which version they are of, and what a continue token says.
//!
//! Must not know: HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cache::Cache;
use super::options::{ListOptions, Match};
use super::refusal::Refusal;
use super::resource::Resource;
use super::selector::Filter;
use super::store::{Gone, Store};

/// A continue token, in the API server's own form.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    /// The version all pages are of; negative: the newest, for a reader whose snapshot is gone.
    rv: i64,
    /// The first key of the page.
    start: String,
}

/// Answers a list.
pub(super) async fn list(
    store: &Store,
    cache: &Cache,
    resource: Resource,
    filter: &Filter,
    options: &ListOptions,
) -> Result<Value, Refusal> {
    let mut start = String::new();
    let mut limit = options.limit;
    let version = if let Some(token) = &options.token {
        let token = Token::decode(token)?;
        start = token.start;
        match u64::try_from(token.rv) {
            Ok(version) => version,
            Err(_) => store.version(),
        }
    } else {
        match (options.version, options.version_match) {
            (None, _) => store.version(),
            (Some(0), _) => {
                // The cache answers with all it has.
                limit = None;
                cache.version()
            }
            // Pages and exact versions are etcd's.
            (Some(version), Some(Match::Exact)) => version,
            (Some(version), None) if limit.is_some() => version,
            (Some(version), _) => {
                cache.fresh(version).await?;
                cache.version()
            }
        }
    };
    let objects = store
        .snapshot(resource, version)
        .map_err(|gone| match (gone, &options.token) {
            (Gone::Future, _) => Refusal::too_large_resource_version(version, store.version()),
            (Gone::Compacted, Some(_)) => Refusal::expired_page(&Token::at(-1, start.clone())),
            (Gone::Compacted, None) => {
                Refusal::expired("The resourceVersion for the provided list is too old.")
            }
        })?;
    Ok(page(resource, filter, &objects, version, &start, limit))
}

/// The page that begins at a key.
fn page(
    resource: Resource,
    filter: &Filter,
    objects: &BTreeMap<String, Arc<Value>>,
    version: u64,
    start: &str,
    limit: Option<usize>,
) -> Value {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let mut items = Vec::new();
    let mut last = None;
    let mut taken = objects
        .range(start.to_owned()..)
        .filter(|(_, object)| filter.takes(object));
    for (key, object) in taken.by_ref().take(limit.unwrap_or(usize::MAX)) {
        items.push(item(object));
        last = Some(key);
    }
    let remaining = taken.count();
    if let Some(last) = last
        && remaining > 0
    {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        metadata["continue"] = Token::at(version, format!("{last}\0")).into();
        // With selectors the server would have to look at all objects to know.
        if !filter.selects() {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    json!({
        "kind": format!("{}List", resource.kind()),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items,
    })
}

/// An object in a list does not repeat what the list says of all.
fn item(object: &Value) -> Value {
    let mut item = object.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

impl Token {
    fn at(rv: i64, start: String) -> String {
        let token = Self {
            v: "meta.k8s.io/v1".to_owned(),
            rv,
            start,
        };
        URL_SAFE_NO_PAD.encode(json!(token).to_string())
    }

    fn decode(text: &str) -> Result<Self, Refusal> {
        let bad = |why: String| {
            Refusal::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| bad("illegal base64 data".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            bad(match bytes.first() {
                None => "unexpected end of JSON input".to_owned(),
                // As encoding/json says it.
                Some(first) if *first != b'{' => format!(
                    "invalid character '{}' looking for beginning of value",
                    std::ascii::escape_default(*first)
                ),
                Some(_) => error.to_string(),
            })
        })
    }
}
