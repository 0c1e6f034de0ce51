//! The admin port: health, metrics and views, read only, over plain HTTP/1.1.
//!
//! Owns a thread with a runtime of its own, a cap on connections and deadlines, so that no load on the endpoints
//! starves it. `gateway` calls [`bind`] before anything starts, [`start`] next, and tells it what happens through
//! [`State`]. Follow a request from `accept` here to `guard`, `routes` and `views`.

mod accept;
mod acme;
mod answer;
pub(crate) mod control;
mod dashboard;
mod exposition;
#[cfg(test)]
mod fixture;
mod guard;
mod plugins;
mod rates;
mod redact;
mod routes;
mod scrape;
pub mod state;
mod stats;
#[cfg(test)]
mod tests;
mod tls_view;
mod upstreams;
mod version;
mod views;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::accept::Acceptor;
use crate::admin::rates::Rates;
use crate::admin::state::State;
use crate::drain::Drain;
use crate::metrics::process::ProcessReader;

/// The largest head of a request, and the most fields in it.
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;

/// What the port puts up with.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// How many connections are held; more wait in the system's queue.
    connections: usize,
    /// How long a request's head may take, and how long a kept connection waits for one.
    head: Duration,
    /// How long an answer may take to be sent, from its request's head.
    request: Duration,
    /// How long answers under way may take once the port is told to stop.
    stop: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connections: 64, head: seconds(5), request: seconds(10), stop: seconds(1) }
    }
}

/// What the admin thread holds.
pub(crate) struct Admin {
    pub(crate) state: Arc<State>,
    pub(crate) process: ProcessReader,
    pub(crate) rates: Rates,
    limits: Limits,
}

/// Opens the admin port, without serving it yet.
///
/// # Errors
/// The address cannot be bound, because it is in use, not ours, or not permitted.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(listen)
}

/// Serves the admin port on a thread of its own, until `stop` begins.
///
/// Stop it last: `/readyz` and `/metrics` are wanted most during a drain.
///
/// # Errors
/// The runtime or the thread could not be made.
pub fn start(listener: std::net::TcpListener, state: Arc<State>, stop: Drain) -> io::Result<JoinHandle<()>> {
    start_within(Limits::default(), listener, state, stop)
}

fn start_within(
    limits: Limits,
    listener: std::net::TcpListener,
    state: Arc<State>,
    stop: Drain,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    // Here, not on the thread: its descriptors are to be in reserve before an endpoint opens.
    let acceptor = {
        let _inside = runtime.enter();
        Acceptor::new(tokio::net::TcpListener::from_std(listener)?)
    };
    let admin = Arc::new(Admin { state, process: ProcessReader::open(), rates: Rates::default(), limits });
    let run = move || runtime.block_on(run(acceptor, admin, stop));
    std::thread::Builder::new().name("admin".into()).spawn(run)
}

async fn run(mut acceptor: Acceptor, admin: Arc<Admin>, stop: Drain) {
    let connections = Drain::new();
    let places = Arc::new(Semaphore::new(admin.limits.connections));
    let freed = acceptor.freed();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // The place is taken before `accept`, so what does not fit waits in the system's queue.
        let next = async {
            let place = places.clone().acquire_owned().await;
            (acceptor.accept().await, place)
        };
        tokio::select! {
            () = stop.begun() => break,
            _ = second.tick() => admin.rates.sample(&admin.state.snapshot(), Instant::now()),
            (socket, place) = next => {
                let (admin, drain, in_flight) = (admin.clone(), connections.clone(), connections.track());
                let freed = freed.clone();
                tokio::spawn(async move {
                    serve(socket, &admin, &drain).await;
                    freed.notify_one();
                    drop((place, in_flight));
                });
            }
        }
    }
    drop(acceptor);
    connections.begin();
    connections.finished(admin.limits.stop).await;
}

/// Serves one connection to its end.
async fn serve(socket: TcpStream, admin: &Admin, drain: &Drain) {
    let head_came = Notify::new();
    let service = service_fn(|request| {
        head_came.notify_one();
        let response = answer(admin, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(admin.limits.head)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How it ended is the client's affair: there is nobody to tell.
        _ = connection.as_mut() => return,
        () = stall(&head_came, admin.limits.request) => return,
        () = drain.begun() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(admin.limits.stop, connection).await;
}

/// Resolves once no request's head has come for as long as an answer may take: who takes the answer more slowly, or
/// sends a body that nobody wants, is cut off. (A kept connection that idles ends before that, by [`Limits::head`].)
async fn stall(head_came: &Notify, limit: Duration) {
    while timeout(limit, head_came.notified()).await.is_ok() {}
}

fn answer(admin: &Admin, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let running = admin.state.snapshot();
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let answer = match guard::admit(request, &running) {
        Ok(()) => routes::answer(admin, &running, request.method(), request.uri().path(), accept),
        Err(refusal) => refusal,
    };
    answer.into_response()
}
