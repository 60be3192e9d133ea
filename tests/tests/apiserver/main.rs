//! The API-server double: held to what a real API server said, to the rules of its versions, and to the faults it promises.
//!
//! The client here is made of a socket and nothing else, so that it sees what is on the wire.

mod client;
mod events;
mod faults;
mod kube_client;
mod life;
mod recorded;
mod store;
mod versions;
mod watches;
