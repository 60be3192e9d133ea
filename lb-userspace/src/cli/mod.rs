//! The command line: what a user types, one verb a file.
//!
//! Owns: the verbs and their options, the exit status, where text goes. Must not know: how rows are made ([`view`]), how maps
//! are read (`dataplane`), how the agent works.

pub mod output;
pub mod view;
