//! Listening, and serving connections.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Answer;

/// Connections of one listener. More wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// How long a client may take over a request's headers, and stay silent between requests.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a connection is used for further requests.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long the last response of a connection may take.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Until a port that was taken is tried again, and connections after none could be accepted.
const RETRY: Duration = Duration::from_secs(1);

/// What answers requests.
pub trait Site: Send + Sync + 'static {
    /// The answer to a request for a path.
    fn answer(&self, path: &str) -> impl Future<Output = Answer> + Send;
}

/// Listens at an address. The unspecified address of either family means every address of both, as it does for kube-proxy; on a
/// host without IPv6 it means those of IPv4.
///
/// # Errors
/// Somebody else holds the port, or the address is not this host's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return TcpListener::bind(address).await;
    }
    let any = |ip: IpAddr| TcpListener::bind(SocketAddr::new(ip, address.port()));
    match any(Ipv6Addr::UNSPECIFIED.into()).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => any(Ipv4Addr::UNSPECIFIED.into()).await,
        bound => bound,
    }
}

/// Listens and serves for ever. A port that is taken is tried again: at an upgrade kube-proxy may still hold it. What goes wrong
/// is logged as being about `what`.
pub async fn serve_at(address: SocketAddr, what: &str, site: Arc<impl Site>) -> Infallible {
    let mut complained = false;
    let listener = loop {
        match bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !complained => {
                tracing::warn!("{what}: cannot listen at {address}: {error}; trying again");
                complained = true;
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    };
    tracing::info!("{what}: listening at {address}");
    serve(listener, site).await
}

/// Serves the connections of a listener for ever; they end with this future.
pub async fn serve(listener: TcpListener, site: Arc<impl Site>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&site)));
                }
                // Out of file descriptors, or the client is gone again.
                Err(error) => {
                    tracing::debug!("accepting a connection: {error}");
                    sleep(RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, site: Arc<impl Site>) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(Response::from(site.answer(request.uri().path()).await)) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SILENCE)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // How a client ends its connection is its own matter.
        _ = connection.as_mut() => return,
        () = sleep(LIFETIME) => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(LAST_WORDS, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Echo;

    impl Site for Echo {
        async fn answer(&self, path: &str) -> Answer {
            Answer::text(path)
        }
    }

    async fn ask(to: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_request_gets_its_answer_with_type_and_headers() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Echo)));
        let response = ask(at, "/some/path?query").await.to_lowercase();
        assert!(response.starts_with("http/1.1 200 ok\r\n"), "{response}");
        assert!(response.contains("content-type: text/plain; charset=utf-8\r\n"));
        assert!(response.contains("x-content-type-options: nosniff\r\n"));
        assert!(response.ends_with("\r\n\r\n/some/path"), "{response}");
    }

    #[tokio::test]
    async fn the_unspecified_address_is_every_address_of_both_families() {
        let listener = bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, Arc::new(Echo)));
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            assert!(
                ask(SocketAddr::new(loopback, port), "/x").await.ends_with("/x"),
                "{loopback}"
            );
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_served_once_it_is_free() {
        let holder = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = holder.local_addr().unwrap();
        let server = tokio::spawn(async move { serve_at(at, "test", Arc::new(Echo)).await });
        // The holder never accepts: the connection stays in its queue until it closes.
        let waiting = TcpStream::connect(at).await.unwrap();
        drop((waiting, holder));
        let answered = async {
            while TcpStream::connect(at).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
            ask(at, "/late").await
        };
        let response = timeout(Duration::from_secs(30), answered).await.unwrap();
        assert!(response.ends_with("/late"), "{response}");
        server.abort();
    }
}
