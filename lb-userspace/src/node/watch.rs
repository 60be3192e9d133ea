//! Follows the host's network live.
//!
//! The kernel's notifications say *that* something changed; a dump says *what* is now. So a notification that is lost
//! (ENOBUFS) or not understood costs a dump and never a wrong picture.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::decode;
use super::state::{DefaultRoute, Link, NodeState};
use super::vlan_stripping::VlanStripping;

/// Notifications come in bursts; this long they are collected before the dump.
const SETTLE: Duration = Duration::from_millis(10);
/// Even without a notification the picture is no older than this.
const RESYNC: Duration = Duration::from_secs(60);
/// A dump takes milliseconds; one that takes this long will not be answered any more.
const DUMP_LIMIT: Duration = Duration::from_secs(10);
/// Pause before a failed dump or connection is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Starts following the network namespace of the calling thread, until `cancel`. The receiver holds a complete picture
/// from the start and changes only when the picture does.
///
/// # Errors
/// When the kernel cannot be asked in the first place. Later failures are logged and tried again.
pub async fn watch(cancel: CancellationToken) -> io::Result<watch::Receiver<NodeState>> {
    let mut session = Session::open()?;
    let state = session.dump(None).await?;
    let (sender, receiver) = watch::channel(state);
    tokio::spawn(async move {
        // Returns when the agent stops or nobody listens any more.
        tokio::select! {
            () = cancel.cancelled() => {}
            () = sender.closed() => {}
            () = follow(session, &sender) => {}
        }
    });
    Ok(receiver)
}

async fn follow(mut session: Session, sender: &watch::Sender<NodeState>) {
    loop {
        let news = tokio::time::timeout(RESYNC, session.next_news()).await;
        if matches!(news, Ok(News::Lost)) {
            session = reopen().await;
        }
        // A change of other routes than default ones does not come this far, so a full table costs nothing here.
        let routes_hold = matches!(news, Ok(News::Links));
        tokio::time::sleep(SETTLE).await;
        let routes_hold = session.drain() && routes_hold;
        let known = routes_hold.then(|| sender.borrow().clone());
        let dump = tokio::time::timeout(DUMP_LIMIT, session.dump(known.as_ref())).await;
        match dump.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(state) => {
                sender.send_if_modified(|current| {
                    let changed = *current != state;
                    *current = state;
                    changed
                });
            }
            Err(error) => {
                tracing::warn!("reading links, addresses and routes failed, trying again: {error}");
                session = reopen().await;
            }
        }
    }
}

async fn reopen() -> Session {
    loop {
        tokio::time::sleep(RETRY).await;
        match Session::open() {
            Ok(session) => return session,
            Err(error) => tracing::warn!("no netlink socket, trying again: {error}"),
        }
    }
}

/// What a notification means for the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// Links or addresses are to be read again.
    Links,
    /// Everything is.
    All,
    /// The connection is gone.
    Lost,
}

type Notification = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

fn news_of((message, _): &Notification) -> Option<News> {
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(_)
            | RouteNetlinkMessage::DelLink(_)
            | RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_),
        ) => Some(News::Links),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => decode::is_default(route).then_some(News::All),
        NetlinkPayload::Overrun(_) => Some(News::All),
        _ => None,
    }
}

/// A netlink connection: notifications come in, dumps are asked for.
struct Session {
    handle: Handle,
    notifications: UnboundedReceiver<Notification>,
    connection: JoinHandle<()>,
    stripping: VlanStripping,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    fn open() -> io::Result<Self> {
        let (connection, handle, notifications) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        Ok(Self {
            handle,
            notifications,
            connection: tokio::spawn(connection),
            stripping: VlanStripping::open()?,
        })
    }

    /// Waits for a notification that matters.
    async fn next_news(&mut self) -> News {
        loop {
            match self.notifications.next().await {
                None => return News::Lost,
                Some(notification) => {
                    if let Some(news) = news_of(&notification) {
                        return news;
                    }
                }
            }
        }
    }

    /// Takes what has come in since; false when the routes are to be read again.
    fn drain(&mut self) -> bool {
        let mut routes_hold = true;
        while let Some(Some(notification)) = self.notifications.next().now_or_never() {
            routes_hold &= news_of(&notification) != Some(News::All);
        }
        routes_hold
    }

    /// Reads everything; the default routes of `known` are taken over while the devices they leave by are unchanged.
    /// (The kernel is silent about IPv4 routes that go with their device or address.)
    async fn dump(&mut self, known: Option<&NodeState>) -> io::Result<NodeState> {
        let links = self.links().await.map_err(io::Error::other)?;
        let mut state = NodeState {
            links,
            default_routes: Vec::new(),
        };
        let unchanged = |known: &&NodeState| {
            let mut devices = known.default_routes.iter().map(|route| route.device);
            devices.all(|device| known.links.get(&device) == state.links.get(&device))
        };
        state.default_routes = match known.filter(unchanged) {
            Some(known) => known.default_routes.clone(),
            None => self.default_routes().await.map_err(io::Error::other)?,
        };
        Ok(state)
    }

    async fn links(&self) -> Result<BTreeMap<u32, Link>, rtnetlink::Error> {
        let mut links: BTreeMap<u32, Link> = BTreeMap::new();
        let mut messages = self.handle.link().get().execute();
        while let Some(message) = messages.try_next().await? {
            links.extend(decode::link(&message));
        }
        let mut messages = self.handle.address().get().execute();
        while let Some(message) = messages.try_next().await? {
            if let Some((index, address)) = decode::address(&message)
                && let Some(link) = links.get_mut(&index)
            {
                link.addresses.push(address);
            }
        }
        self.look_up_stripping(&mut links);
        Ok(links)
    }

    fn look_up_stripping(&self, links: &mut BTreeMap<u32, Link>) {
        let parents: Vec<u32> = links.values().filter_map(Link::vlan_parent).collect();
        for parent in parents {
            if let Some(link) = links.get_mut(&parent) {
                link.strips_vlan = self.stripping.of(&link.name);
            }
        }
    }

    async fn default_routes(&self) -> Result<Vec<DefaultRoute>, rtnetlink::Error> {
        let mut routes = Vec::new();
        for family in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let mut messages = self.handle.route().get(family).execute();
            while let Some(message) = messages.try_next().await? {
                routes.extend(decode::default_routes(&message));
            }
        }
        routes.sort_by_key(|route| (route.ipv6, route.metric, route.device));
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::NetlinkHeader;
    use rtnetlink::packet_route::address::AddressMessage;
    use rtnetlink::packet_route::link::LinkMessage;
    use rtnetlink::packet_route::neighbour::NeighbourMessage;
    use rtnetlink::packet_route::route::{RouteMessage, RouteType};

    use super::*;

    #[test]
    fn notifications_mean_what_they_touch() {
        let route = |length| {
            let mut route = RouteMessage::default();
            route.header.kind = RouteType::Unicast;
            route.header.destination_prefix_length = length;
            route
        };
        let inner = NetlinkPayload::InnerMessage;
        let cases = [
            (
                inner(RouteNetlinkMessage::NewLink(LinkMessage::default())),
                Some(News::Links),
            ),
            (
                inner(RouteNetlinkMessage::DelAddress(AddressMessage::default())),
                Some(News::Links),
            ),
            (inner(RouteNetlinkMessage::NewRoute(route(0))), Some(News::All)),
            (inner(RouteNetlinkMessage::DelRoute(route(0))), Some(News::All)),
            (inner(RouteNetlinkMessage::NewRoute(route(24))), None),
            (
                inner(RouteNetlinkMessage::NewNeighbour(NeighbourMessage::default())),
                None,
            ),
            (NetlinkPayload::Overrun(Vec::new()), Some(News::All)),
        ];
        for (payload, expected) in cases {
            let what = format!("{payload:?}");
            let message = NetlinkMessage::new(NetlinkHeader::default(), payload);
            assert_eq!(news_of(&(message, SocketAddr::new(0, 0))), expected, "{what}");
        }
    }
}
