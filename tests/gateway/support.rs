//! What the tests share: the real binary on free ports, raw clients, upstreams that misbehave on purpose, real peers.

pub mod client;
pub mod collector;
pub mod dns;
pub mod h2;
pub mod h2_upstream;
pub mod pebble;
pub mod peers;
pub mod pki;
pub mod plugins;
pub mod tls;
pub mod upstream;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Nothing in a test takes longer; what does has hung.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A folder of a test's own, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("portcullis-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate or key of `certs/`, as an absolute path for use in a configuration.
#[allow(dead_code, reason = "the tests of TLS are yet to come")]
pub fn cert(name: &str) -> String {
    format!("{}/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// `portcullis` with arguments, not yet started.
pub fn portcullis(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(args).env_remove("PORTCULLIS_CONFIG").stdin(Stdio::null());
    command
}

/// `portcullis` with arguments, run to its end.
pub fn run(args: &[&str]) -> Output {
    portcullis(args).output().unwrap()
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A configuration: one plain endpoint, `front`, whose `http-proxy` passes everything on to `servers`. `more` is added.
pub fn http_proxy(servers: &[SocketAddr], more: &str) -> String {
    format!("{}\n[handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n{more}\n", front(servers))
}

/// A configuration: one plain endpoint, `front`, whose `tcp-proxy` passes everything on to `servers`. `more` is added.
pub fn tcp_proxy(servers: &[SocketAddr], more: &str) -> String {
    format!("{}\n[handlers.site]\ntype = \"tcp-proxy\"\nupstream = \"app\"\n{more}\n", front(servers))
}

/// Adds keys to the `front` endpoint of a configuration.
pub fn with_front(config: &str, keys: &str) -> String {
    config.replacen("[endpoints.front]\n", &format!("[endpoints.front]\n{keys}\n"), 1)
}

/// Adds keys to the `app` upstream of a configuration.
pub fn with_app(config: &str, keys: &str) -> String {
    config.replacen("[upstreams.app]\n", &format!("[upstreams.app]\n{keys}\n"), 1)
}

fn front(servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    format!(
        "[endpoints.front]\nlisten = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"site\"\n\
         [upstreams.app]\nservers = {servers:?}\n"
    )
}

/// A running gateway: the real binary.
pub struct Gateway {
    child: Child,
    log: Lines,
    access: Lines,
    /// Every endpoint's addresses, as the log has them.
    addresses: Vec<(String, Vec<SocketAddr>)>,
    pub admin: SocketAddr,
    pub folder: Folder,
}

impl Gateway {
    /// Starts the binary on a configuration; `[admin]` is added, every port should be 0.
    pub fn start(config: &str) -> Self {
        Self::start_in(Folder::new(), config)
    }

    /// As [`start`](Self::start), in a folder that holds files of the test's own.
    pub fn start_in(folder: Folder, config: &str) -> Self {
        Self::start_by(folder, config, portcullis)
    }

    /// As [`start_in`](Self::start_in), by a command that `command` makes of the arguments.
    pub fn start_by(folder: Folder, config: &str, command: impl FnOnce(&[&str]) -> Command) -> Self {
        let path = folder.write("gateway.toml", with_admin(config));
        let mut child = command(&["run", "--config", path.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let access = Lines::of(child.stdout.take().unwrap());
        let nowhere = ([127, 0, 0, 1], 0).into();
        let mut gateway = Self { child, log, access, addresses: Vec::new(), admin: nowhere, folder };
        let line = gateway.wait_for_log("admin: http://");
        gateway.admin = line.split("admin: http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        gateway.addresses = addresses(&gateway.log.all());
        gateway
    }

    /// Writes another configuration where it was started from, for a reload.
    pub fn configure(&self, config: &str) {
        self.folder.write("gateway.toml", with_admin(config));
    }

    /// Runs a command that talks to it, such as `reload`.
    pub fn command(&self, args: &[&str]) -> Output {
        let socket = self.folder.path().join("control.sock");
        run(&[args, &["--control", socket.to_str().unwrap()]].concat())
    }

    /// Reloads; what that said changed.
    #[track_caller]
    pub fn reload(&self) -> String {
        let output = self.command(&["reload"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    }

    /// The first address of an endpoint.
    pub fn address(&self, endpoint: &str) -> SocketAddr {
        let (_, addresses) = self.addresses.iter().find(|(name, _)| name == endpoint).expect("the endpoint serves");
        addresses[0]
    }

    /// What the admin port answers.
    pub fn get(&self, path: &str) -> client::Answer {
        client::get(self.admin, path)
    }

    /// What the admin port answers, as JSON.
    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{path}: {e}: {}", answer.body))
    }

    /// The value of one series of `/metrics`, such as `portcullis_endpoint_up{endpoint="a"}`; `None` if it is not there.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.get("/metrics").body;
        metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Asks for a metric until it has a value, since counting follows the answer by a moment.
    pub fn wait_for_metric(&self, series: &str, wanted: f64) {
        let start = Instant::now();
        loop {
            let value = self.metric(series);
            if value == Some(wanted) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{series} is {value:?}, not {wanted}\n{}", self.get("/metrics").body);
            std::thread::yield_now();
        }
    }

    /// Asks for a metric until it is above 0.
    pub fn wait_for_some(&self, series: &str) {
        let start = Instant::now();
        while self.metric(series).is_none_or(|value| value <= 0.0) {
            assert!(start.elapsed() < PATIENCE, "{series} stays 0\n{}", self.get("/metrics").body);
            std::thread::yield_now();
        }
    }

    /// The next log line (standard error) that contains `what`.
    pub fn wait_for_log(&mut self, what: &str) -> String {
        self.log.wait_for(what)
    }

    /// The next access line (standard output) that contains `what`.
    pub fn wait_for_access(&mut self, what: &str) -> String {
        self.access.wait_for(what)
    }

    /// How many log lines so far contain `what`.
    pub fn count_in_log(&self, what: &str) -> usize {
        self.log.all().iter().filter(|line| line.contains(what)).count()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process; its exit code, or -1 where a signal ended it.
    pub fn wait(&mut self) -> i32 {
        wait(&mut self.child).code().unwrap_or(-1)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log\n{}", self.log.all().join("\n"));
        }
    }
}

/// A configuration with an admin port, and a control socket in its folder.
fn with_admin(config: &str) -> String {
    format!("{config}\n[admin]\nlisten = \"127.0.0.1:0\"\ncontrol = \"control.sock\"\n")
}

/// Waits for the end of a process, but not for ever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "process {} does not end", child.id());
        std::thread::yield_now();
    }
}

/// The addresses in the summaries of a start-up: `serves plain on ADDRESS, ADDRESS, handler …endpoint=NAME`. A summary
/// may go on over several lines, of which the last names the endpoint; in JSON it is one.
fn addresses(log: &[String]) -> Vec<(String, Vec<SocketAddr>)> {
    let mut found = Vec::new();
    let mut current = Vec::new();
    for line in log {
        if let Some((_, list)) = line.split_once("serves plain on ").or_else(|| line.split_once("serves TLS on ")) {
            current = list.split(", ").map_while(|item| item.parse().ok()).collect();
        }
        let name = line.split_once(" endpoint=").or_else(|| line.split_once("\"endpoint\":\""));
        let name = name.map(|(_, rest)| rest.split([' ', '"']).next().unwrap_or(rest));
        if let (Some(name), false) = (name, current.is_empty()) {
            found.push((name.to_owned(), std::mem::take(&mut current)));
        }
    }
    found
}

/// The lines of a pipe, as they come. They are read whether a test asks for them or not, so the pipe never fills.
struct Lines {
    shared: Arc<(Mutex<Came>, Condvar)>,
    /// How many were looked at by `wait_for`.
    seen: usize,
}

#[derive(Default)]
struct Came {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::<(Mutex<Came>, Condvar)>::default();
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            let (came, news) = &*writer;
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                came.lock().unwrap().lines.push(line);
                news.notify_all();
            }
            came.lock().unwrap().ended = true;
            news.notify_all();
        });
        Self { shared, seen: 0 }
    }

    fn all(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().lines.clone()
    }

    fn wait_for(&mut self, what: &str) -> String {
        let (came, news) = &*self.shared;
        let deadline = Instant::now() + PATIENCE;
        let mut came = came.lock().unwrap();
        loop {
            while let Some(line) = came.lines.get(self.seen) {
                self.seen += 1;
                if line.contains(what) {
                    return line.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if came.ended || left.is_zero() {
                let all = came.lines.join("\n");
                drop(came); // or whoever asks for the lines while this unwinds would find them poisoned
                panic!("{what:?} did not come:\n{all}");
            }
            came = news.wait_timeout(came, left).unwrap().0;
        }
    }
}
