//! What can go wrong between us and an API server.
//!
//! Owns: telling apart what asks for different answers, in words and in deeds. Must not know: what was asked for, how long to wait.

use std::fmt;
use std::time::Duration;

use kube::core::Status;

/// A server that asks for more patience than this is asked again all the same.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why a request, or what came of it, is at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered, or the connection broke.
    Connection(String),
    /// A watch that had lasted a while broke off: somebody on the way has no patience with silence, or the server goes.
    Cut(String),
    /// The server says no, by its answer or by an `ERROR` event.
    Refusal(Refusal),
    /// What came is not what an API server says.
    Garbage(String),
    /// A streaming list stopped short of its end.
    Incomplete(String),
    /// Another list broke off.
    Truncated(String),
    /// A list from a cache is older than what was applied.
    Outdated(String),
    /// A watch ended at once, without a word.
    Mute,
    /// A watch tells of a version before what it was begun at.
    Backwards(String),
}

/// A server's no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status, or the one the event names.
    pub(super) code: u16,
    /// In one word, as Kubernetes writes reasons; may be empty.
    pub(super) reason: String,
    /// In words.
    pub(super) message: String,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// What follows for the way in which was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setback {
    /// Nothing: it may be asked again.
    Retry,
    /// It may be the way; after a few times another is taken.
    Doubt,
    /// This way is not open.
    Closed,
    /// The version that was asked for is forgotten.
    Expired,
}

/// What people are told about, once each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    Unreachable,
    Unauthorized,
    Forbidden,
    Overloaded,
    Failing,
    Confused,
}

impl Refusal {
    /// From an answer's status, its header `Retry-After`, and its body.
    pub(super) fn of_answer(code: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let mut refusal = match serde_json::from_slice::<Status>(body) {
            Ok(status) => Self::of_status(&status),
            // A proxy's words, perhaps a page of them.
            Err(_) => Self {
                message: String::from_utf8_lossy(body).chars().take(200).collect(),
                ..Self::default()
            },
        };
        refusal.code = code;
        let header = retry_after
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_secs);
        refusal.retry_after = header.map_or(refusal.retry_after, |header| {
            Some(header.min(LONGEST_RETRY_AFTER))
        });
        refusal
    }

    /// From the object of an `ERROR` event.
    pub(super) fn of_status(status: &Status) -> Self {
        let seconds = status
            .details
            .as_ref()
            .map_or(0, |details| details.retry_after_seconds);
        Self {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST_RETRY_AFTER)),
        }
    }

    fn setback(&self) -> Setback {
        match self.code {
            _ if matches!(self.reason.as_str(), "Expired" | "Gone") => Setback::Expired,
            410 => Setback::Expired,
            // Who we are, what we may, and how busy the server is have nothing to do with how it was asked.
            401 | 429 => Setback::Retry,
            403 if self.is_rbac() => Setback::Retry,
            code if (400..500).contains(&code) => Setback::Closed,
            _ => Setback::Doubt,
        }
    }

    /// Whether it is a missing permission, and not a gateway that does not like the request.
    fn is_rbac(&self) -> bool {
        self.code == 403 && self.reason == "Forbidden" && self.message.contains(" cannot ")
    }
}

impl Failure {
    /// What cannot be read, with its beginning: it says best who sent it.
    pub(super) fn garbage(error: &serde_json::Error, text: &[u8]) -> Self {
        let beginning: String = String::from_utf8_lossy(text).chars().take(80).collect();
        Self::Garbage(format!("{error} in {beginning:?}"))
    }

    pub(super) fn setback(&self) -> Setback {
        match self {
            Self::Connection(_) | Self::Cut(_) => Setback::Retry,
            Self::Refusal(refusal) => refusal.setback(),
            Self::Garbage(_) | Self::Incomplete(_) | Self::Backwards(_) => Setback::Closed,
            Self::Truncated(_) | Self::Outdated(_) | Self::Mute => Setback::Doubt,
        }
    }

    /// Whether another server may do better, or the same one with credentials read anew: certificates expire, and who shows an
    /// expired one is answered 401 over a connection that goes on.
    pub(super) fn is_the_servers(&self) -> bool {
        match self {
            Self::Refusal(refusal) => matches!(refusal.code, 401 | 429 | 500..),
            Self::Backwards(_) => false,
            _ => true,
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refusal(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// What people should hear of it; nothing when it belongs to the normal course of things.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Connection(_) | Self::Truncated(_) | Self::Mute => Some(Trouble::Unreachable),
            Self::Garbage(_) => Some(Trouble::Confused),
            Self::Cut(_) | Self::Incomplete(_) | Self::Outdated(_) | Self::Backwards(_) => None,
            Self::Refusal(refusal) => match refusal.code {
                401 => Some(Trouble::Unauthorized),
                429 => Some(Trouble::Overloaded),
                403 if refusal.is_rbac() => Some(Trouble::Forbidden),
                code if (400..500).contains(&code) => None,
                _ => Some(Trouble::Failing),
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(words) => write!(f, "no connection: {words}"),
            Self::Cut(words) => write!(f, "it was cut: {words}"),
            Self::Refusal(refusal) => refusal.fmt(f),
            Self::Garbage(words) => write!(f, "not what an API server says: {words}"),
            Self::Incomplete(words) => write!(f, "the streaming list did not come to its end: {words}"),
            Self::Truncated(words) => write!(f, "the list broke off: {words}"),
            Self::Outdated(words) => write!(f, "the list is older than what was applied: {words}"),
            Self::Mute => f.write_str("the watch ended at once"),
            Self::Backwards(words) => write!(f, "the watch went back: {words}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: u16, body: &str, setback: Setback, trouble: Option<Trouble>) {
        let failure = Failure::Refusal(Refusal::of_answer(code, None, body.as_bytes()));
        assert_eq!(
            (failure.setback(), failure.trouble()),
            (setback, trouble),
            "{failure}"
        );
    }

    #[test]
    fn each_no_has_its_consequence() {
        let rbac = r#"{"kind":"Status","reason":"Forbidden","message":"services is forbidden: User \"x\" cannot watch resource \"services\"","code":403}"#;
        check(403, rbac, Setback::Retry, Some(Trouble::Forbidden));
        check(403, "<html>not through this proxy</html>", Setback::Closed, None);
        check(
            401,
            r#"{"reason":"Unauthorized","code":401}"#,
            Setback::Retry,
            Some(Trouble::Unauthorized),
        );
        check(422, r#"{"reason":"Invalid","code":422}"#, Setback::Closed, None);
        check(
            400,
            r#"{"reason":"BadRequest","code":400}"#,
            Setback::Closed,
            None,
        );
        check(410, r#"{"reason":"Expired","code":410}"#, Setback::Expired, None);
        check(410, "", Setback::Expired, None);
        check(429, "", Setback::Retry, Some(Trouble::Overloaded));
        check(500, "", Setback::Doubt, Some(Trouble::Failing));
        let lagging = r#"{"reason":"Timeout","message":"Timeout: Too large resource version: 9, current: 4","code":504}"#;
        check(504, lagging, Setback::Doubt, Some(Trouble::Failing));
    }

    #[test]
    fn a_server_may_ask_for_patience_in_two_ways_but_not_for_ever() {
        let status = br#"{"details":{"retryAfterSeconds":3},"code":504}"#;
        let after = |header, body: &[u8]| Refusal::of_answer(504, header, body).retry_after;
        assert_eq!(after(None, b""), None);
        assert_eq!(after(None, status), Some(Duration::from_secs(3)));
        assert_eq!(after(Some("7"), status), Some(Duration::from_secs(7)));
        assert_eq!(after(Some("86400"), b""), Some(LONGEST_RETRY_AFTER));
        assert_eq!(after(Some("soon"), status), Some(Duration::from_secs(3)));
    }
}
