//! Real peers from Debian's packages, each on a free port of loopback and ended with the test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::{Folder, PATIENCE};

/// A peer's process.
pub struct Peer {
    child: Child,
    pub address: SocketAddr,
    pub folder: Folder,
}

impl Peer {
    /// nginx with these directives inside its `server` block; `{port}` is where it listens.
    pub fn nginx(folder: Folder, server: &str) -> Self {
        let address = free_address();
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/nginx.pid; error_log {path}/error.log;
             events {{ worker_connections 1024; }}
             http {{
               access_log off; client_max_body_size 0; root {path};
               client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fcgi;
               uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
               server {{ listen {address}; {server} }}
             }}"
        );
        let file = folder.write("nginx.conf", config);
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-e", &format!("{path}/error.log"), "-p", folder.path().to_str().unwrap(), "-c"]).arg(file);
        Self::start(command, address, folder)
    }

    /// OpenSSL's TLS server with these arguments, which speaks every version and sends any chain.
    pub fn s_server(args: &[&str]) -> Self {
        let address = free_address();
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", &address.to_string()]).args(args);
        Self::start(command, address, Folder::new())
    }

    /// Prometheus, which scrapes `target` every second.
    pub fn prometheus(folder: Folder, target: SocketAddr) -> Self {
        let address = free_address();
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n\
             - {{ job_name: gateway, static_configs: [ {{ targets: [ \"{target}\" ] }} ] }}\n"
        );
        let file = folder.write("prometheus.yml", config);
        let mut command = Command::new("/usr/bin/prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        Self::start(command, address, folder)
    }

    /// Any other, once it listens.
    pub fn start(mut command: Command, address: SocketAddr, folder: Folder) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}; scripts/test installs it"));
        let peer = Self { child, address, folder };
        peer.wait_until_it_listens();
        peer
    }

    fn wait_until_it_listens(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(start.elapsed() < PATIENCE, "{} does not listen: {}", self.address, log(self.folder.path()));
            std::thread::yield_now();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("error.log")).unwrap_or_default()
}

/// An address that is free, and that nobody is given by chance: its port is below those that the system deals out to
/// clients and to whoever listens on port 0, and no other test of this process gets it.
pub fn free_address() -> SocketAddr {
    const LOWEST: u32 = 10_000;
    const PORTS: u32 = 20_000; // the system's begin at 32,768
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        let nth = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], (LOWEST + nth % PORTS) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
