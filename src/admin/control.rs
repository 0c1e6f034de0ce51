//! The control socket: HTTP/1.1 over a unix socket, for what changes the gateway. Whoever may open the file may reload and
//! drain, so it is made for its owner alone.
//!
//! Opened and started by `gateway`, on a thread of its own; `cli/control.rs` is its client. What only reads is answered as on
//! the admin port.

mod handing_over;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::acme::wish::{Reason, Renewals};
use crate::admin::answer::Answer;
use crate::admin::rates::Rates;
use crate::admin::state::State;
use crate::admin::{Admin, HEAD_BYTES, HEAD_FIELDS, Limits, routes};
use crate::config::LogLevel;
use crate::drain::Drain;
use crate::handover::Successor;
use crate::listener::spares::Spares;
use crate::metrics::process::ProcessReader;
use crate::reload::{Handle, NoEndpoint};

/// How many connections are held; more wait in the system's queue.
const CONNECTIONS: usize = 8;
/// How many wait there.
const BACKLOG: i32 = 16;
/// How long a connection may take, its answer included: a reload reads and audits every chain.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long to wait after a failed `accept`; the same failure would come back at once.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The open socket, not served yet.
pub(crate) struct Control {
    listener: UnixListener,
    /// Under a name of its own until it is started.
    file: SocketFile,
    /// What it is called then.
    path: PathBuf,
}

/// Who answers.
struct Desk {
    admin: Admin,
    reload: Handle,
    wishes: Wishes,
    /// The socket's file.
    path: PathBuf,
}

/// Changes the least severe event that is logged.
pub(crate) type SetLogLevel = Arc<dyn Fn(LogLevel) + Send + Sync>;

/// What the control socket can ask of the gateway, besides a reload.
#[derive(Clone, Default)]
pub(crate) struct Wishes {
    /// Begins when the gateway is to drain.
    pub(crate) drain: Drain,
    /// Begins when another process has taken over.
    pub(crate) handed_over: Drain,
    /// What a successor is given.
    pub(crate) spares: Spares,
    /// How one is started, if it can be.
    pub(crate) successor: Option<Successor>,
    /// Renews certificates that ACME manages.
    pub(crate) renewals: Option<Renewals>,
    /// Changes what is logged, where the log is ours.
    pub(crate) log_level: Option<SetLogLevel>,
}

impl Control {
    /// Opens the socket with mode 0600. A file that another gateway left behind is replaced; one on which somebody answers
    /// is not, unless this gateway takes over from that one.
    ///
    /// The file appears when the socket is [started](Self::start): until then a gateway that is taken over from is asked.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(crate) fn bind(path: &Path, takes_over: bool) -> Result<Self, String> {
        let fault = |why: String| format!("admin.control: {}: {why}", path.display());
        free(path, takes_over).map_err(fault)?;
        let mut private = path.as_os_str().to_owned();
        private.push(format!(".{}", std::process::id()));
        let private = PathBuf::from(private);
        let opened = listen(&private)
            .and_then(|listener| Ok(Self { listener, file: SocketFile::new(&private)?, path: path.to_owned() }));
        opened.map_err(|error| {
            let _ = fs::remove_file(&private); // it may never have come to be
            fault(format!("cannot listen: {error}; the folder must exist and be ours to write"))
        })
    }

    /// Serves on a thread of its own until `stop` begins; then removes the file.
    ///
    /// # Errors
    /// The file could not be put in its place, or the runtime or the thread not be made.
    pub(crate) fn start(
        self,
        state: Arc<State>,
        reload: Handle,
        wishes: Wishes,
        stop: Drain,
    ) -> io::Result<JoinHandle<()>> {
        let Self { listener, mut file, path } = self;
        file.rename(path)?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let admin = Admin { state, process: ProcessReader::open(), rates: Rates::default(), limits: Limits::default() };
        let desk = Arc::new(Desk { admin, reload, wishes, path: file.path.clone() });
        std::thread::Builder::new().name("control".into()).spawn(move || {
            if let Err(error) = runtime.block_on(run(listener, desk, stop)) {
                tracing::error!("admin.control: cannot serve: {error}");
            }
            drop(file);
        })
    }
}

/// Sees to it that the path is free, or holds a socket on which nobody answers.
fn free(path: &Path, takes_over: bool) -> Result<(), String> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err("exists and is no socket; remove it or name another file".into());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(format!("is there, and cannot be asked who listens: {error}")),
        Ok(_) if takes_over => Ok(()),
        Ok(_) => Err("another gateway answers on it; stop that one or name another file".into()),
    }
}

/// The mode is set between binding and listening: until then nobody can connect, whatever the umask.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Our file, removed in the end unless another has taken its place.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    fn rename(&mut self, path: PathBuf) -> io::Result<()> {
        fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path); // a leftover is replaced at the next start
        }
    }
}

/// Its device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

async fn run(listener: UnixListener, desk: Arc<Desk>, stop: Drain) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let connections = Drain::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.begun() => break,
            next = next => next,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        let (desk, in_flight) = (Arc::clone(&desk), connections.track());
        tokio::spawn(async move {
            // How it ended is the client's affair: there is nobody to tell.
            let _ = timeout(CONNECTION, serve(socket, &desk)).await;
            drop((place, in_flight));
        });
    }
    connections.finished(desk.admin.limits.stop).await;
    Ok(())
}

/// Serves one connection, which is for one request.
async fn serve(socket: tokio::net::UnixStream, desk: &Desk) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(desk, request).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(desk.admin.limits.head)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let _ = connection.await;
}

async fn answer(desk: &Desk, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let answer = match (path, request.method()) {
        ("/reload", &Method::POST) => reload(desk, request.uri().query()).await,
        ("/drain", &Method::POST) => {
            desk.wishes.drain.begin();
            Answer::json(StatusCode::ACCEPTED, &json!({ "draining": true }))
        }
        ("/renew", &Method::POST) => renew(desk, request.uri().query().unwrap_or_default()).await,
        ("/take-over", &Method::POST) => return handing_over::begin(request, &desk.wishes),
        ("/upgrade", &Method::POST) => handing_over::upgrade(&desk.wishes, &desk.path).await,
        ("/log", &Method::POST) => log(desk, request.uri().query()),
        (path, &Method::POST) if endpoint_to_drain(path).is_some() => {
            drain(desk, endpoint_to_drain(path).unwrap_or_default()).await
        }
        ("/reload" | "/drain" | "/renew" | "/take-over" | "/upgrade" | "/log", _) => {
            Answer::refuse(StatusCode::METHOD_NOT_ALLOWED, "POST it: it changes the gateway").with(ALLOW, "POST")
        }
        (path, method) => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            routes::answer(&desk.admin, &desk.admin.state.snapshot(), method, path, accept)
        }
    };
    answer.into_response()
}

/// The name in `/endpoints/{name}/drain`.
fn endpoint_to_drain(path: &str) -> Option<&str> {
    path.strip_prefix("/endpoints/")?.strip_suffix("/drain").filter(|name| !name.contains('/'))
}

async fn drain(desk: &Desk, endpoint: &str) -> Answer {
    match desk.reload.drain(endpoint.to_owned()).await {
        Some(Ok(connections)) => {
            let body = json!({ "endpoint": endpoint, "draining": true, "connections": connections });
            Answer::json(StatusCode::ACCEPTED, &body)
        }
        Some(Err(NoEndpoint(names))) => {
            Answer::json(StatusCode::NOT_FOUND, &json!({ "error": "no such endpoint", "endpoints": names }))
        }
        None => Answer::refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping"),
    }
}

fn log(desk: &Desk, query: Option<&str>) -> Answer {
    let Some(set) = &desk.wishes.log_level else {
        return Answer::refuse(StatusCode::NOT_IMPLEMENTED, "the program around this gateway keeps the log by itself");
    };
    let word = query.and_then(|query| query.strip_prefix("level=")).unwrap_or_default();
    match serde_json::from_value::<LogLevel>(word.into()) {
        Ok(level) => {
            set(level);
            tracing::info!("the log's level is {word} from now on");
            Answer::json(StatusCode::OK, &json!({ "level": level }))
        }
        Err(_) => {
            let why = "the query must be level=error, level=warn, level=info, level=debug or level=trace";
            Answer::refuse(StatusCode::BAD_REQUEST, why)
        }
    }
}

async fn reload(desk: &Desk, query: Option<&str>) -> Answer {
    let dry_run = match query {
        None | Some("dry_run=false") => false,
        Some("dry_run=true") => true,
        Some(_) => return Answer::refuse(StatusCode::BAD_REQUEST, "the query may be dry_run=true or dry_run=false"),
    };
    match desk.reload.reload(dry_run).await {
        Ok(change) => Answer::json(StatusCode::OK, &change),
        Err(failure) => Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &failure),
    }
}

/// `certificate=NAME`, with or without `&revoke=REASON`. Neither holds a character that would need an escape.
async fn renew(desk: &Desk, query: &str) -> Answer {
    let (certificate, revoke) = query.split_once('&').map_or((query, None), |(name, rest)| (name, Some(rest)));
    let reason = revoke.map(|revoke| revoke.strip_prefix("revoke=").and_then(Reason::of));
    let (Some(name), None | Some(Some(_))) = (certificate.strip_prefix("certificate="), reason) else {
        let error = "the query is certificate=NAME, or certificate=NAME&revoke=superseded (or key-compromise)";
        return Answer::refuse(StatusCode::BAD_REQUEST, error);
    };
    let Some(renewals) = &desk.wishes.renewals else {
        return Answer::refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting or stopping");
    };
    match renewals.renew(name.to_owned(), reason.flatten()).await {
        Ok(done) => Answer::json(StatusCode::OK, &json!({ "done": done })),
        Err(failure) => Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &failure),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Bound, and under its name, as if it were started.
    fn bind(path: &Path) -> Result<Control, String> {
        let mut control = Control::bind(path, false)?;
        control.file.rename(path.to_owned()).unwrap();
        Ok(control)
    }

    #[test]
    fn the_socket_is_its_owners_replaces_a_dead_one_and_never_a_living_one_or_a_file() {
        let folder = std::env::temp_dir().join(format!("portcullis-control-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(bind(&path).err().unwrap().contains("another gateway answers"));
        // What a process that was killed leaves behind.
        let Control { listener, file, .. } = first;
        std::mem::forget(file);
        drop(listener);
        let second = bind(&path).unwrap();
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(bind(&path).err().unwrap().contains("no socket"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no private file is left");
        fs::remove_dir_all(&folder).unwrap();
    }
}
