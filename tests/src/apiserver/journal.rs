//! The log of requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::request::Request;

/// All requests a server has seen, in order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    requests: Mutex<Vec<Request>>,
}

impl Journal {
    pub(super) fn note(&self, request: Request) {
        self.requests().push(request);
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.requests().clone()
    }

    pub(super) fn forget(&self) {
        self.requests().clear();
    }

    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
