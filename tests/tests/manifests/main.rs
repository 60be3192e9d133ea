//! The manifests that install xvip: what an API server and the agent take of them.

mod base;
mod files;
mod role;
