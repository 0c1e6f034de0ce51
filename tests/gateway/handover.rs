//! Sockets that outlive a process: a service manager's, and those that one gateway hands to the next.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::client::{connect, get, read_to_end};
use crate::support::peers::free_address;
use crate::support::upstream::{Upstream, read_request};
use crate::support::{Folder, Gateway, PATIENCE, http_proxy, portcullis, run, stderr};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A configuration whose endpoint has a port that another process can know.
fn on(address: SocketAddr, upstream: &Upstream) -> String {
    http_proxy(&[upstream.address], "").replacen("127.0.0.1:0", &address.to_string(), 1)
}

/// Starts a gateway that takes over from another.
fn take_over(from: &Gateway, config: &str) -> Gateway {
    let control = from.folder.path().join("control.sock");
    Gateway::start_by(Folder::new(), config, |args| {
        portcullis(&[args, &["--take-over", control.to_str().unwrap()]].concat())
    })
}

/// One client after another, until told to stop; says how many were served.
fn knock(address: SocketAddr, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut served = 0;
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(get(address, "/").status, 200);
            served += 1;
        }
        served
    })
}

#[test]
fn one_process_takes_over_from_another_and_no_connection_is_refused() {
    let (upstream, _) = Upstream::answering(OK);
    let address = free_address();
    let mut old = Gateway::start(&on(address, &upstream));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..2).map(|_| knock(address, stop.clone())).collect();
    let mut new = take_over(&old, &on(address, &upstream));
    new.wait_for_log("took over");
    assert_eq!(old.wait(), 0);
    old.wait_for_log("another took over: draining");
    assert_eq!(get(address, "/").status, 200);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}

#[test]
fn what_the_old_process_has_in_flight_ends_well_and_the_new_one_answers_the_rest() {
    let (go, may_go) = std::sync::mpsc::sync_channel::<()>(1);
    let first = std::sync::Mutex::new(Some(may_go));
    let upstream = Upstream::start(move |mut stream| {
        read_request(&mut stream);
        let Some(may_go) = first.lock().unwrap().take() else { return stream.write_all(OK.as_bytes()).unwrap() };
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
        may_go.recv_timeout(PATIENCE).unwrap();
        stream.write_all(b"time").unwrap();
    });
    let other = Upstream::saying("new");
    let address = free_address();
    let mut old = Gateway::start(&on(address, &upstream));
    let mut stream = connect(address);
    stream.write_all(GET.as_bytes()).unwrap();
    assert_eq!(crate::support::client::read_head(&mut stream).status, 200);
    let mut new = take_over(&old, &on(address, &other));
    new.wait_for_log("took over");
    old.wait_for_log("another took over: draining");
    // Connections that were in the old one's queue by then are still its to answer.
    let begun = std::time::Instant::now();
    while get(address, "/").body != "new" {
        assert!(begun.elapsed() < PATIENCE, "the new one never answers");
    }
    go.send(()).unwrap();
    let mut body = [0; 8];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"halftime");
    assert_eq!(read_to_end(&mut stream).0, b"");
    assert_eq!(old.wait(), 0);
}

#[test]
fn a_successor_that_cannot_start_leaves_the_old_process_as_it_was() {
    let (upstream, _) = Upstream::answering(OK);
    let address = free_address();
    let mut old = Gateway::start(&on(address, &upstream));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("[endpoints.more]\nlisten = \"{}\"\nhandler = \"site\"\n", taken.local_addr().unwrap());
    let folder = Folder::new();
    let config = folder.write("gateway.toml", format!("{}{more}", on(address, &upstream)));
    let control = old.folder.path().join("control.sock");
    let output = run(&["run", "--config", config.to_str().unwrap(), "--take-over", control.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot listen on"), "{}", stderr(&output));
    old.wait_for_log("did not come to serve");
    assert_eq!(get(address, "/").status, 200);
    assert_eq!(old.command(&["status"]).status.code(), Some(0));
}

#[test]
fn there_is_nothing_to_take_over_where_nobody_answers() {
    let (upstream, _) = Upstream::answering(OK);
    let folder = Folder::new();
    let config = folder.write("gateway.toml", on(free_address(), &upstream));
    let output = run(&["run", "--config", config.to_str().unwrap(), "--take-over", "/nowhere.sock"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot take over from the gateway at /nowhere.sock"), "{}", stderr(&output));
}

/// Ends whatever gateway a control socket belongs to by then.
struct Ends<'a>(&'a Gateway);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.command(&["drain"]);
    }
}

#[test]
fn an_upgrade_starts_the_installed_program_and_answers_when_it_serves() {
    let (upstream, _) = Upstream::answering(OK);
    let address = free_address();
    let mut old = Gateway::start(&on(address, &upstream));
    let output = old.command(&["upgrade"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(old.wait(), 0, "the old process has ended");
    let _ends = Ends(&old);
    assert_eq!(get(address, "/").status, 200);
    assert_eq!(old.command(&["status"]).status.code(), Some(0), "the new one answers at the same socket");
}

#[test]
fn an_upgrade_to_a_configuration_that_is_broken_changes_nothing() {
    let (upstream, _) = Upstream::answering(OK);
    let address = free_address();
    let old = Gateway::start(&on(address, &upstream));
    old.configure("[endpoints.front]\nlisten = 7\n");
    let output = old.command(&["upgrade"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exit status: 1"), "{}", stderr(&output));
    assert_eq!(get(address, "/").status, 200);
}

/// As systemd does it (sd_listen_fds(3)): sockets from descriptor 3 on, for the process that is named, in its environment.
const ACTIVATE: &str = "
import os, socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[3], sys.argv[3:])
";

fn activated(address: SocketAddr, args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", ACTIVATE, &address.ip().to_string(), &address.port().to_string()]);
    command.arg(env!("CARGO_BIN_EXE_portcullis")).args(args).env_remove("PORTCULLIS_CONFIG");
    command
}

#[test]
fn a_socket_of_the_service_manager_is_served_by_every_worker_and_the_manager_is_told() {
    let (upstream, _) = Upstream::answering(OK);
    let address = free_address();
    let folder = Folder::new();
    let told = folder.path().join("notify.sock");
    let manager = UnixDatagram::bind(&told).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut message = [0; 512];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let config = format!("{}[gateway]\nworkers = 3\n", on(address, &upstream));
    let mut gateway = Gateway::start_by(folder, &config, |args| {
        let mut command = activated(address, args);
        command.env("NOTIFY_SOCKET", &told);
        command
    });
    assert_eq!(hear(), format!("MAINPID={}\nREADY=1\n", gateway.pid()));
    for _ in 0..8 {
        assert_eq!(get(address, "/").status, 200);
    }
    gateway.reload();
    assert!(hear().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(hear().contains("READY=1"));
    gateway.signal("TERM");
    assert_eq!(hear(), "STOPPING=1\n");
    assert_eq!(gateway.wait(), 0);
}

#[test]
fn a_socket_that_no_endpoint_listens_on_is_an_error_that_names_it() {
    let (upstream, _) = Upstream::answering(OK);
    let folder = Folder::new();
    let config = folder.write("gateway.toml", on(free_address(), &upstream));
    let address = free_address();
    let output = activated(address, &["run", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("a socket for {address} was passed")), "{}", stderr(&output));
}
