//! The Kubernetes source against the API-server double, over real HTTP: what it tells the agent, whatever happens to servers and
//! connections.

mod listing;
mod outages;
mod watched;
mod watching;
