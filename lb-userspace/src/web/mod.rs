//! Answering small HTTP requests: health checks, metrics.
//!
//! Owns: ports that somebody else may still hold, and connections: how many there may be, and for how long. Must not know: what
//! is answered.

mod answer;
mod server;

pub use answer::Answer;
pub use server::{Site, bind, serve, serve_at};
