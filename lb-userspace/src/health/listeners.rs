//! The health check ports of Services: opened, closed, tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::answers;
use super::checks::{Check, Checks};
use super::shared::SharedHealth;
use crate::model::{IpFamily, ObjectRef, ServiceKey};
use crate::source::events::{EventSender, ObjectEvent, Reason};
use crate::web::{self, Answer, Site};

/// Until a port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The health checks of all Services, served until dropped.
#[derive(Debug)]
pub struct ServiceChecks {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    checks: Mutex<Checks>,
    changed: Notify,
}

impl ServiceChecks {
    /// Serves; ports that are taken are told to the Services' owners through `events`. Needs a tokio runtime.
    #[must_use]
    pub fn start(health: SharedHealth, events: EventSender) -> Self {
        let shared = Arc::new(Shared {
            checks: Mutex::default(),
            changed: Notify::new(),
        });
        let stop = CancellationToken::new();
        let listeners = Listeners {
            shared: Arc::clone(&shared),
            health,
            events,
            open: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(listeners.run()).await });
        Self {
            shared,
            _stop: stop.drop_guard(),
        }
    }

    /// The check a Service has now; see [`Checks::set`].
    pub fn set(&self, service: &ServiceKey, check: Option<Check>) {
        if self.shared.lock().set(service, check) {
            self.shared.changed.notify_one();
        }
    }

    /// The addresses that serve nodePorts now.
    pub fn set_addresses(&self, addresses: BTreeSet<IpAddr>) {
        if self.shared.lock().set_addresses(addresses) {
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Checks> {
        // Every write leaves it whole.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place where a Service is asked about.
type Place = (SocketAddr, ServiceKey);

/// The open sockets.
struct Listeners {
    shared: Arc<Shared>,
    health: SharedHealth,
    events: EventSender,
    open: BTreeMap<Place, Open>,
    /// Places that could not be opened, and why, as far as it was told.
    refused: BTreeMap<Place, String>,
}

/// Closed when dropped, with all its connections.
struct Open(JoinHandle<()>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listeners {
    async fn run(mut self) {
        loop {
            self.follow().await;
            let changed = self.shared.changed.notified();
            if self.refused.is_empty() {
                changed.await;
            } else {
                // A port is free when it is free: nobody tells.
                let _ = tokio::time::timeout(RETRY, changed).await;
            }
        }
    }

    /// Closes what is no longer wanted, then opens what is missing: a port may change hands.
    async fn follow(&mut self) {
        let wanted = self.shared.lock().places();
        self.refused.retain(|place, _| wanted.contains(place));
        for (_, mut open) in self.open.extract_if(.., |place, _| !wanted.contains(place)) {
            open.0.abort();
            // The socket is closed when its task is gone.
            let _ = (&mut open.0).await;
        }
        for place in wanted {
            if self.open.contains_key(&place) {
                continue;
            }
            match web::bind(place.0).await {
                Ok(listener) => {
                    self.refused.remove(&place);
                    let site = Arc::new(CheckSite {
                        shared: Arc::clone(&self.shared),
                        health: self.health.clone(),
                        family: IpFamily::of(place.0.ip()),
                        service: place.1.clone(),
                    });
                    let task = tokio::spawn(async move {
                        web::serve(listener, site).await;
                    });
                    self.open.insert(place, Open(task));
                }
                Err(error) => self.complain(place, error.to_string()),
            }
        }
    }

    /// Reports a place that cannot be opened, once for each reason.
    fn complain(&mut self, place: Place, why: String) {
        if self.refused.get(&place) == Some(&why) {
            return;
        }
        let (at, service) = &place;
        let note = format!("cannot serve the health check at {at}: {why}; trying again");
        tracing::warn!("Service {service}: {note}");
        let uid = self.shared.lock().get(service).map(|check| check.uid.clone());
        self.events.send(ObjectEvent {
            object: ObjectRef::new("Service", &service.namespace, &service.name),
            uid: uid.unwrap_or_default(),
            reason: Reason::FailedToStartServiceHealthcheck,
            note,
        });
        self.refused.insert(place, why);
    }
}

/// What answers at one place, whatever the path.
struct CheckSite {
    shared: Arc<Shared>,
    health: SharedHealth,
    family: IpFamily,
    service: ServiceKey,
}

impl Site for CheckSite {
    async fn answer(&self, _path: &str) -> Answer {
        let local_endpoints = {
            let checks = self.shared.lock();
            let check = checks.get(&self.service);
            check.and_then(|check| check.local_endpoints.get(&self.family).copied())
        };
        // A Service that is just going has none.
        answers::service(
            &self.service,
            local_endpoints.unwrap_or_default(),
            self.health.is_healthy(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_owner_of_a_service_whose_port_is_taken_hears_of_it_once() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = holder.local_addr().unwrap();
        let (events, mut told) = EventSender::channel();
        let checks = ServiceChecks::start(SharedHealth::new(true), events);
        let check = Check {
            port: at.port(),
            uid: "1234".to_owned(),
            local_endpoints: [(IpFamily::V4, 1)].into(),
        };
        checks.set_addresses([at.ip()].into());
        checks.set(&ServiceKey::new("shop", "web"), Some(check));
        let event = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
        assert_eq!(event.object, ObjectRef::new("Service", "shop", "web"));
        assert_eq!(event.uid, "1234");
        assert_eq!(event.reason.as_str(), "FailedToStartServiceHealthcheck");
        assert!(event.note.contains(&at.to_string()), "{}", event.note);

        drop(holder);
        let served = async {
            while TcpStream::connect(at).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, served).await.unwrap();
        assert!(told.try_recv().is_err(), "it was told once");
        drop(checks);
        let closed = async {
            while TcpStream::connect(at).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, closed).await.unwrap();
    }
}
