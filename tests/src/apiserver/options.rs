//! The options of a list or watch, checked against each other as the API server does.
//!
//! Must not know: what they lead to.

use super::refusal::{Problem, Refusal};
use super::request::{Kind, Request};

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Exact,
    NotOlderThan,
}

/// The options of one request.
#[derive(Debug, Clone)]
pub(super) struct ListOptions {
    /// `None` where the request names none.
    pub version: Option<u64>,
    pub version_match: Option<Match>,
    pub limit: Option<usize>,
    pub token: Option<String>,
    pub bookmarks: bool,
    /// Seconds.
    pub timeout: Option<u64>,
    pub initial_events: bool,
}

impl ListOptions {
    /// Reads the options of a list or watch. `watch_list`: whether the server has streaming lists.
    pub(super) fn parse(request: &Request, watch_list: bool) -> Result<Self, Refusal> {
        // An empty parameter is one that is not there.
        let param = |name| request.param(name).filter(|value| !value.is_empty());
        let problems = problems(request, watch_list);
        if !problems.is_empty() {
            return Err(Refusal::invalid("meta.k8s.io", "ListOptions", "", &problems));
        }
        let version = param("resourceVersion")
            .map(|text| {
                text.parse().map_err(|_| {
                    Refusal::bad_request(format!("resourceVersion: Invalid value: {text:?}: not a number"))
                })
            })
            .transpose()?;
        let token = param("continue").map(str::to_owned);
        if token.is_some() && version.is_some_and(|version| version != 0) {
            return Err(Refusal::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Ok(Self {
            version,
            version_match: match param("resourceVersionMatch") {
                Some("Exact") => Some(Match::Exact),
                Some(_) => Some(Match::NotOlderThan),
                None => None,
            },
            limit: param("limit")
                .and_then(|text| text.parse().ok())
                .filter(|limit| *limit > 0),
            token,
            bookmarks: param("allowWatchBookmarks").is_some_and(|value| value == "true" || value == "1"),
            timeout: param("timeoutSeconds").and_then(|text| text.parse().ok()),
            initial_events: request.kind == Kind::StreamingList,
        })
    }
}

/// The rules of `ValidateListOptions`.
fn problems(request: &Request, watch_list: bool) -> Vec<Problem> {
    const MATCH: &str = "resourceVersionMatch";
    const INITIAL: &str = "sendInitialEvents";
    let param = |name| request.param(name).filter(|value| !value.is_empty());
    let watch = request.kind != Kind::List;
    let matched = param(MATCH);
    let mut problems = Vec::new();
    let mut forbid =
        |when: bool, field, why: &str| when.then(|| problems.push(Problem::forbidden(field, why)));
    let initial = param(INITIAL).is_some();

    if watch {
        forbid(
            initial && matched != Some("NotOlderThan"),
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
        forbid(
            initial && !watch_list,
            INITIAL,
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        );
        forbid(
            matched.is_some() && !initial,
            MATCH,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
    } else {
        forbid(
            matched.is_some() && param("resourceVersion").is_none(),
            MATCH,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        );
        forbid(
            matched == Some("Exact") && param("resourceVersion") == Some("0"),
            MATCH,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
        forbid(initial, INITIAL, "sendInitialEvents is forbidden for list");
    }
    forbid(
        matched.is_some() && param("continue").is_some(),
        MATCH,
        "resourceVersionMatch is forbidden when continue is provided",
    );
    let supported: &[&str] = if watch {
        &["NotOlderThan"]
    } else {
        &["Exact", "NotOlderThan", ""]
    };
    if let Some(matched) = matched
        && !supported.contains(&matched)
    {
        problems.push(Problem::not_supported(MATCH, matched, supported));
    }
    problems
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn parse(query: &str) -> Result<ListOptions, Refusal> {
        let uri = format!("/api/v1/services?{query}").parse().unwrap();
        ListOptions::parse(&Request::parse(1, &Method::GET, &uri, &HeaderMap::new()), true)
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for (query, why) in [
            ("watch=1&sendInitialEvents=true", "sendInitialEvents requires"),
            (
                "watch=1&resourceVersionMatch=NotOlderThan",
                "unless sendInitialEvents",
            ),
            ("sendInitialEvents=true", "forbidden for list"),
            ("resourceVersionMatch=Exact", "unless resourceVersion is provided"),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                "\"exact\" is forbidden",
            ),
            (
                "resourceVersionMatch=Newer&resourceVersion=1",
                "Unsupported value",
            ),
        ] {
            let refused = parse(query).unwrap_err();
            let status = refused.status.unwrap();
            assert_eq!(refused.code, 422, "{query}");
            assert!(
                status["message"].as_str().unwrap().contains(why),
                "{query}: {status}"
            );
        }
    }
}
