//! What the tests share: the real binary on free ports, raw clients, upstreams that misbehave on purpose, real peers.

pub mod client;
pub mod peers;
pub mod upstream;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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

/// A running gateway: the real binary.
pub struct Gateway {
    child: Child,
    stderr: Lines,
    stdout: Lines,
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
        let config = format!("{config}\n[admin]\nlisten = \"127.0.0.1:0\"\n");
        let path = folder.write("gateway.toml", config);
        let mut child = portcullis(&["run", "--config", path.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Lines::of(child.stderr.take().unwrap());
        let stdout = Lines::of(child.stdout.take().unwrap());
        let mut gateway = Self { child, stderr, stdout, admin: ([127, 0, 0, 1], 0).into(), folder };
        let line = gateway.wait_for_log("admin: http://");
        let address = line.split("admin: http://").nth(1).unwrap().split('/').next().unwrap();
        gateway.admin = address.parse().unwrap();
        gateway
    }

    /// The first address of an endpoint.
    pub fn address(&self, endpoint: &str) -> SocketAddr {
        let view = self.json(&format!("/endpoints/{endpoint}"));
        view["addresses"][0].as_str().unwrap_or_else(|| panic!("no address in {view}")).parse().unwrap()
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

    /// The next log line (standard error) that contains `what`.
    pub fn wait_for_log(&mut self, what: &str) -> String {
        self.stderr.wait_for(what)
    }

    /// The next access line (standard output) that contains `what`.
    pub fn wait_for_access(&mut self, what: &str) -> String {
        self.stdout.wait_for(what)
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process; its exit status.
    pub fn wait(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < PATIENCE, "the gateway does not end");
            std::thread::yield_now();
        }
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
            eprintln!("--- the gateway's log\n{}", self.stderr.seen.join("\n"));
        }
    }
}

/// The lines of a pipe, as they come.
struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(what) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{what:?} did not come"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{what:?} did not come before the end:\n{}", self.seen.join("\n"))
                }
            }
        }
    }
}
