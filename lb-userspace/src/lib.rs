//! The agent and the command line.
