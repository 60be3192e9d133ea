//! What is said to a request.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A JSON body. Browsers are told to believe its type, as Kubernetes' servers do.
    ///
    /// # Panics
    /// When `body` cannot be JSON: a map whose keys are not text.
    #[must_use]
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self {
            status,
            content_type: "application/json",
            headers: vec![nosniff()],
            body: serde_json::to_string(body).expect("answers have text for keys"),
        }
    }

    /// A text, status 200.
    #[must_use]
    pub fn text(body: impl Into<String>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; charset=utf-8",
            headers: vec![nosniff()],
            body: body.into(),
        }
    }

    /// A failure, in words.
    #[must_use]
    pub fn failure(status: StatusCode, why: impl Into<String>) -> Self {
        Self {
            status,
            ..Self::text(why)
        }
    }

    /// Nothing is at this path.
    #[must_use]
    pub fn not_found() -> Self {
        Self::failure(StatusCode::NOT_FOUND, "404 page not found\n")
    }
}

fn nosniff() -> (HeaderName, HeaderValue) {
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    )
}

impl From<Answer> for Response<String> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(answer.body);
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(answer.content_type),
        );
        headers.extend(answer.headers);
        response
    }
}
