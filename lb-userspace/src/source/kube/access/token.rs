//! A bearer token in a file, which somebody else writes anew before it expires.
//!
//! Owns: reading it for every request. Requests are few (a watch lasts minutes), the file is in memory, and so a token that was
//! replaced is never used again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use super::AccessError;

/// The token; clones share what was read.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: Arc<Path>,
    last: Arc<Mutex<HeaderValue>>,
}

impl TokenFile {
    /// Reads the file for the first time.
    pub(super) fn open(path: PathBuf) -> Result<Self, AccessError> {
        match read(&path) {
            Ok(header) => Ok(Self {
                path: path.into(),
                last: Arc::new(Mutex::new(header)),
            }),
            Err(reason) => Err(AccessError::Token { path, reason }),
        }
    }

    /// Puts the token into a request. A file that cannot be read now leaves the last token in force: it may be about to be
    /// replaced.
    pub(super) fn authorize<B>(&self, mut request: Request<B>) -> Request<B> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok(header) => *last = header,
            Err(reason) => {
                tracing::warn!(token = %self.path.display(), reason, "using the token read before");
            }
        }
        request.headers_mut().insert(AUTHORIZATION, last.clone());
        request
    }
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let token = text.trim();
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    // The reason may not repeat the token.
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "is no token: characters that no HTTP header can hold".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}
