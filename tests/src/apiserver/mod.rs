//! A double of the Kubernetes API server, over real HTTP/1.1 and TLS, that tests can write to, look into, and hurt.
//!
//! ```text
//!   test ── Store ──┬── ApiServer ── HTTP ── the client under test
//!                   └── ApiServer …            (several servers, one cluster)
//! ```
//!
//! [`Store`] is etcd: objects, resource versions, history. [`ApiServer`] serves it: lists, pages, watches, bookmarks, streaming
//! lists, with the version rules, selectors and refusals of kube-apiserver 1.36, to which [`Recording`] holds it. What goes
//! wrong is in [`Faults`] and in the server's methods; what was asked is in [`ApiServer::requests`].
//!
//! What it does not do: validate objects that tests write, allocate addresses, run controllers, check roles.

mod answer;
mod cache;
mod faults;
mod front;
mod journal;
mod kubeconfig;
mod list;
mod object;
mod options;
mod recording;
mod refusal;
mod request;
mod resource;
mod selector;
mod server;
mod store;
mod thread;
mod tls;
mod watch;
mod watches;
mod wire;
mod write;

pub use faults::{Fault, Faults, Which};
pub use kubeconfig::Kubeconfig;
pub use recording::{Change, EventType, Exchange, Recording, Step, Stream, StreamEvent};
pub use request::{Kind, Request};
pub use resource::Resource;
pub use server::{ApiServer, Builder};
pub use store::Store;
pub use tls::Authority;
pub use watches::Cut;
