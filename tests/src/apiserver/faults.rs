//! What goes wrong on purpose: rules that say which of the next requests meet which fault.
//!
//! Must not know: how a fault is carried out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::request::{Kind, Request};
use super::resource::Resource;

/// Which requests a fault is for. Each part that is not set takes everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Which {
    kind: Option<Kind>,
    resource: Option<Resource>,
}

impl Which {
    /// All requests.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Those of a kind.
    #[must_use]
    pub fn kind(self, kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            ..self
        }
    }

    /// Those for a resource.
    #[must_use]
    pub fn resource(self, resource: Resource) -> Self {
        Self {
            resource: Some(resource),
            ..self
        }
    }

    fn takes(self, request: &Request) -> bool {
        self.kind.is_none_or(|kind| kind == request.kind)
            && self
                .resource
                .is_none_or(|resource| Some(resource) == request.served())
    }
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer, and nothing done.
    Answer {
        /// The HTTP status.
        status: StatusCode,
        /// Headers, `Retry-After` say.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// The body, sent as `application/json` unless the headers say otherwise.
        body: String,
    },
    /// The right answer, but so much later.
    Delay(Duration),
    /// The right answer, its body in pieces with a pause before each.
    Trickle {
        /// Bytes in a piece.
        piece: usize,
        /// The pause.
        pause: Duration,
    },
    /// No answer for as long as the connection lives.
    Silence,
    /// The connection is reset.
    Reset,
}

impl Fault {
    /// An answer of this status with nothing in it.
    #[must_use]
    pub fn status(status: StatusCode) -> Self {
        Self::Answer {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// An overloaded server: 429 with `Retry-After`, in seconds, in the plain words of priority and fairness.
    #[must_use]
    pub fn too_many_requests(retry_after: u64) -> Self {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        Self::Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: vec![
                (header::RETRY_AFTER, retry_after.into()),
                (header::CONTENT_TYPE, plain),
            ],
            body: "Too many requests, please try again later.\n".to_owned(),
        }
    }
}

/// The rules in force. The first that fits a request decides.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
}

#[derive(Debug)]
struct Rule {
    which: Which,
    fault: Fault,
    /// Requests it is still for; `None` is for all.
    left: Option<usize>,
}

impl Faults {
    /// The next `count` requests that fit meet the fault; then the rule is gone.
    pub fn next(&self, count: usize, which: Which, fault: Fault) {
        self.add(which, fault, Some(count));
    }

    /// All requests that fit meet the fault, until [`Faults::clear`].
    pub fn always(&self, which: Which, fault: Fault) {
        self.add(which, fault, None);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules().clear();
    }

    /// Requests that counted rules are still for.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rules().iter().filter_map(|rule| rule.left).sum()
    }

    /// The fault this request meets, which counts as one of those its rule is for.
    pub(super) fn meet(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.rules();
        let at = rules.iter().position(|rule| rule.which.takes(request))?;
        let fault = rules[at].fault.clone();
        if let Some(left) = &mut rules[at].left {
            *left -= 1;
            if *left == 0 {
                rules.remove(at);
            }
        }
        Some(fault)
    }

    fn add(&self, which: Which, fault: Fault, left: Option<usize>) {
        if left != Some(0) {
            self.rules().push(Rule { which, fault, left });
        }
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
