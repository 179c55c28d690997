//! The admin port itself: connections, and what every request passes before its path decides where it goes. Double
//! slashes become single ones, and who may not call is refused.
//!
//! Slow and hostile clients: so many connections at once, and an end for those that stay silent where a request, or more
//! of one, should come (`--idle-seconds`), for those that do not read their answers, and for those that are gone.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Version;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::Service as _;

use super::body::lingering;
use super::client::{Client, ClientStream};
use super::coop::Errors;
use super::patient::Patient;
use super::{Admin, guard};
use crate::pace::{self, Round};

/// After the system refused a connection: it is out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// The routes behind their guard.
#[derive(Clone)]
pub struct Front {
    admin: Arc<Admin>,
    routes: Router,
}

impl Front {
    /// Puts these routes behind it.
    pub fn new(admin: Arc<Admin>, routes: Router) -> Self {
        Self { admin, routes }
    }

    /// Serves a port until it is told to stop, then what is under way to its end.
    pub async fn serve(self, port: TcpListener, stop: impl Future<Output = ()>) {
        let mut http = http1::Builder::new();
        let idle = self.admin.config.limits.idle;
        // What a client that is gone would cost is `Client`'s affair: hyper cannot tell it from one that only sends no more.
        http.timer(TokioTimer::new()).header_read_timeout(idle).half_close(true);
        let graceful = GracefulShutdown::new();
        let turns = Arc::new(Semaphore::new(self.admin.config.limits.admin_connections_max));
        let (closes, closing) = pace::turns();
        tokio::spawn(pace::hand_out(closes, tokio::task::yield_now)); // ends with the last connection
        let (mut stop, mut round) = (std::pin::pin!(stop), Round::default());
        loop {
            let accepted = async {
                let turn = turns.clone().acquire_owned().await.map_err(io::Error::other)?;
                let (stream, peer) = port.accept().await?;
                Ok::<_, io::Error>((turn, stream, peer))
            };
            let (turn, stream, peer) = tokio::select! {
                () = &mut stop => break,
                accepted = accepted => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::debug!(%error, "the admin port takes no connection for now");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let client = Client::new(stream);
            let calling = Calling { front: self.clone(), peer: peer_of(peer), client: client.clone() };
            let counts = self.admin.metrics.turns.clone();
            let stalled = self.admin.config.limits.stalled;
            let stream = Patient::new(ClientStream(client.clone()), stalled, counts.clone(), closing.clone());
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), calling));
            tokio::spawn(async move {
                tokio::select! {
                    biased; // `gone` comes second, see there
                    _ = connection => {} // a client that broke off is its own affair
                    () = client.gone() => { counts.gone.fetch_add(1, Ordering::Relaxed); }
                }
                drop(turn);
            });
            if round.is_over() {
                tokio::task::yield_now().await; // comes back after the sockets were looked at
            }
        }
        drop(closing);
        graceful.shutdown().await;
    }

    fn call(&self, mut request: Request, peer: IpAddr) -> Answering {
        single_slashes(&mut request);
        match guard::identify(&self.admin.config, &self.admin.door, &request, peer) {
            Err(refusal) => {
                let coops = guard::is_coops(request.uri().path());
                let answer =
                    if coops { Errors::from(refusal).into_response() } else { refusal.into_response() };
                Box::pin(async { Ok(answer) })
            }
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(Peer(peer));
                // A router is ready, always.
                Box::pin(self.routes.clone().call(request))
            }
        }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Who calls on one connection.
struct Calling {
    front: Front,
    peer: IpAddr,
    client: Arc<Client>,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Calling {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: hyper::Request<Incoming>) -> Answering {
        let idle = self.front.admin.config.limits.idle;
        let patient = |body: Incoming| {
            if body.is_end_stream() { Body::empty() } else { lingering(Body::new(body), idle) }
        };
        let knows_interim = request.version() >= Version::HTTP_11;
        let answering = self.front.call(request.map(patient), self.peer);
        if !knows_interim {
            return answering;
        }
        let client = self.client.clone();
        client.next_turn();
        Box::pin(async move {
            let answer = answering.await;
            client.next_turn();
            answer
        })
    }
}

fn peer_of(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

/// Takes `//c/banks` for `/c/banks`, without a redirect: Coop's client writes it so (specs/coop.md 3).
fn single_slashes(request: &mut Request) {
    let path = request.uri().path();
    if !path.contains("//") {
        return;
    }
    let mut single = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !single.ends_with('/') {
            single.push(character);
        }
    }
    if let Some(query) = request.uri().query() {
        single.push('?');
        single.push_str(query);
    }
    // Still a path: characters were only left out.
    if let Ok(uri) = single.parse() {
        *request.uri_mut() = uri;
    }
}
