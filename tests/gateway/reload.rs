//! Reload: what changed is taken, what did not goes on, and what is wrong changes nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::client::{ask, connect, get, read_to_end};
use crate::support::peers::free_address;
use crate::support::tls::{endpoint, endpoint_with, s_client, show};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, cert, http_proxy, stderr, stdout, tcp_proxy, with_front};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SUCCEEDED: &str = "portcullis_config_reloads_total{result=\"success\"}";
const FAILED: &str = "portcullis_config_reloads_total{result=\"failure\"}";
const LAST: &str = "portcullis_config_last_reload_successful";

/// A folder with a chain and its key as `site.pem` and `site.key`.
fn folder_with(chain: &str) -> Folder {
    let folder = Folder::new();
    install(&folder, chain);
    folder
}

fn install(folder: &Folder, chain: &str) {
    for kind in ["pem", "key"] {
        folder.write(&format!("site.{kind}"), std::fs::read(cert(&format!("{chain}.{kind}"))).unwrap());
    }
}

/// A TLS endpoint, `front`, that serves the folder's chain, and looks at it only when asked to.
fn tls_front() -> String {
    let show = show().replace("workers = 1", "workers = 1\nwatch = false");
    format!("{show}{}", endpoint_with("front", "internal", "show", &[("site.pem".into(), "site.key".into())], ""))
}

fn plain(name: &str, address: SocketAddr) -> String {
    format!("[endpoints.{name}]\nlisten = \"{address}\"\nclass = \"internal\"\nhandler = \"show\"\n")
}

#[test]
fn sighup_takes_a_renewed_certificate() {
    let mut gateway = Gateway::start_in(folder_with("localhost"), &tls_front());
    let before = s_client(gateway.address("front"), &[]).line("subject=").to_owned();
    install(&gateway.folder, "www-rsa");
    gateway.signal("HUP");
    gateway.wait_for_log("reloaded: changed front; 0 unchanged");
    let after = s_client(gateway.address("front"), &[]);
    assert!(after.answered() && after.line("subject=") != before, "{}", after.text);
    assert_eq!((gateway.metric(SUCCEEDED), gateway.metric(LAST)), (Some(1.0), Some(1.0)));
}

#[test]
fn a_broken_certificate_keeps_the_old_one_and_is_said_everywhere_until_it_is_mended() {
    let mut gateway = Gateway::start_in(folder_with("localhost"), &tls_front());
    gateway.folder.write("site.pem", std::fs::read(cert("www-rsa.pem")).unwrap());
    let output = gateway.command(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("endpoint \"front\" is refused") && said.contains("site.key"), "{said}");
    assert!(said.contains("1 error: not reloaded; the plan before is served"), "{said}");
    gateway.wait_for_log("the reload failed, and the plan before is served: endpoint \"front\" is refused");
    assert_eq!((gateway.metric(FAILED), gateway.metric(LAST)), (Some(1.0), Some(0.0)));
    assert!(s_client(gateway.address("front"), &[]).answered());
    install(&gateway.folder, "localhost");
    assert_eq!(gateway.reload(), "reloaded: 1 unchanged\n");
    assert_eq!((gateway.metric(SUCCEEDED), gateway.metric(LAST)), (Some(1.0), Some(1.0)));
}

#[test]
fn a_broken_configuration_keeps_the_old_one_and_every_error_has_its_place() {
    let config = format!("{}{}", show(), plain("front", ([127, 0, 0, 1], 0).into()));
    let gateway = Gateway::start(&config);
    gateway.configure(&format!("{config}alow = []\nmax_conections = 1\n"));
    let output = gateway.command(&["reload"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said.matches("gateway.toml:").count(), 2, "{said}");
    assert!(said.contains("did you mean \"allow\"?") && said.contains("did you mean \"max_connections\"?"), "{said}");
    assert_eq!(get(gateway.address("front"), "/").status, 200);
}

#[test]
fn what_only_a_restart_can_change_is_an_error_that_says_so() {
    let config = format!("{}{}", show(), plain("front", ([127, 0, 0, 1], 0).into()));
    let gateway = Gateway::start(&config);
    gateway.configure(&format!("{}[log]\nformat = \"json\"\n", config.replace("workers = 1", "workers = 2")));
    let output = gateway.command(&["reload"]);
    let said = stderr(&output);
    assert!(said.contains("gateway.workers: a reload cannot change this; restart the gateway"), "{said}");
    assert!(said.contains("log: a reload cannot change this") && said.contains("2 errors: not reloaded"), "{said}");
}

#[test]
fn endpoints_come_and_go_and_a_port_in_use_changes_nothing() {
    let config = format!("{}{}", show(), plain("front", ([127, 0, 0, 1], 0).into()));
    let gateway = Gateway::start(&config);
    let address = free_address();
    gateway.configure(&format!("{config}{}", plain("more", address)));
    let tried = gateway.command(&["reload", "--dry-run"]);
    assert_eq!(stdout(&tried), "a reload would do this: added more; 1 unchanged\n");
    assert!(TcpStream::connect(address).is_err(), "a dry run opens nothing");
    assert_eq!(gateway.reload(), "reloaded: added more; 1 unchanged\n");
    assert_eq!(get(address, "/").status, 200);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [free, taken] = [free_address(), taken.local_addr().unwrap()];
    gateway.configure(&format!("{config}{}{}", plain("free", free), plain("taken", taken)));
    let output = gateway.command(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("endpoint \"taken\": cannot listen on {taken}")), "{}", stderr(&output));
    assert!(TcpStream::connect(free).is_err(), "all or nothing");
    assert_eq!(get(address, "/").status, 200, "what would have been removed is still there");

    let mut kept = connect(address);
    assert_eq!(ask(&mut kept, GET).status, 200);
    gateway.configure(&config);
    assert_eq!(gateway.reload(), "reloaded: removed more; 1 unchanged\n");
    assert_eq!(read_to_end(&mut kept).0, b"", "an idle connection of a removed endpoint ends");
    assert_eq!(gateway.json("/endpoints")["endpoints"].as_array().unwrap().len(), 1);
    // The accept loops close their sockets a moment after the answer.
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(get(gateway.address("front"), "/").status, 200);
}

#[test]
fn an_endpoint_goes_from_one_address_to_all_of_them_and_back() {
    let address = free_address();
    let gateway = Gateway::start(&format!("{}{}", show(), plain("front", address)));
    let mut kept = connect(address);
    assert_eq!(ask(&mut kept, GET).status, 200);
    let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
    let every = SocketAddr::from(([0, 0, 0, 0], address.port()));
    gateway.configure(&format!("{}{}", show(), plain("front", every)));
    assert_eq!(gateway.reload(), "reloaded: changed front; 0 unchanged\n");
    assert_eq!(get(other, "/").status, 200);
    assert_eq!(get(address, "/").status, 200);
    assert_eq!(read_to_end(&mut kept).0, b"", "its address is gone, so an idle connection ends");
    gateway.configure(&format!("{}{}", show(), plain("front", address)));
    assert_eq!(gateway.reload(), "reloaded: changed front; 0 unchanged\n");
    assert_eq!(get(address, "/").status, 200);
    while TcpStream::connect(other).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn one_endpoint_drains_stays_closed_across_reloads_and_is_said_not_to_be_ready() {
    let local = ([127, 0, 0, 1], 0).into();
    let config = format!("{}{}{}", show(), plain("front", local), plain("other", local));
    let gateway = Gateway::start(&config);
    let front = gateway.address("front");
    let mut kept = connect(front);
    assert_eq!(ask(&mut kept, GET).status, 200);
    let output = gateway.command(&["drain", "--endpoint", "front"]);
    assert_eq!(stdout(&output), "draining front: nothing new is accepted, and what is in flight may end\n");
    assert_eq!(read_to_end(&mut kept).0, b"", "an idle connection ends");
    while TcpStream::connect(front).is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(gateway.reload(), "reloaded: 2 unchanged\n");
    assert!(TcpStream::connect(front).is_err(), "a reload does not open it again");
    let seen = gateway.json("/endpoints/front");
    assert_eq!((&seen["state"], &seen["up"]), (&"draining".into(), &false.into()));
    let ready = gateway.get("/readyz");
    assert!(ready.status == 503 && ready.body.contains("it was told to drain"), "{}", ready.body);
    assert_eq!(gateway.metric("portcullis_endpoint_up{endpoint=\"front\"}"), Some(0.0));
    assert_eq!(get(gateway.address("other"), "/").status, 200);

    let unknown = gateway.command(&["drain", "--endpoint", "fronnt"]);
    assert!(unknown.status.code() == Some(1) && stderr(&unknown).contains("no such endpoint"), "{}", stderr(&unknown));
    // Taken out and put back, it is another endpoint.
    gateway.configure(&format!("{}{}", show(), plain("other", local)));
    gateway.reload();
    let address = free_address();
    gateway.configure(&config.replace(
        "listen = \"127.0.0.1:0\"\nclass = \"internal\"\nhandler = \"show\"\n[endpoints.other]",
        &format!("listen = \"{address}\"\nclass = \"internal\"\nhandler = \"show\"\n[endpoints.other]"),
    ));
    gateway.reload();
    assert_eq!(get(address, "/").status, 200);
}

#[test]
fn a_reload_that_is_tried_tells_chains_findings_and_connections() {
    let mut gateway = Gateway::start_in(folder_with("localhost"), &tls_front());
    let kept = connect(gateway.address("front"));
    gateway.wait_for_metric("portcullis_connections_active{endpoint=\"front\"}", 1.0);
    install(&gateway.folder, "incomplete");
    let tried = stdout(&gateway.command(&["reload", "--dry-run"]));
    assert!(tried.starts_with("a reload would do this: changed front; 0 unchanged\n"), "{tried}");
    for part in [
        "\nfront: connections now: 1, which end as they began\n",
        "site.pem: is another, until ",
        "(rule chain-incomplete)",
    ] {
        assert!(tried.contains(part), "{part:?} is not in {tried}");
    }
    assert_eq!(gateway.count_in_log("chain-incomplete"), 0, "nothing was taken");
    drop(kept);
    gateway.signal("HUP");
    gateway.wait_for_log("(rule chain-incomplete)");
}

#[test]
fn the_logs_level_is_changed_while_the_gateway_runs() {
    let config = format!("{}{}", show(), plain("front", ([127, 0, 0, 1], 0).into()));
    let mut gateway = Gateway::start(&format!("{config}[log]\nlevel = \"info\"\n"));
    let changed = gateway.command(&["log", "error"]);
    assert_eq!(stdout(&changed), "the log's level is error until the gateway starts again\n");
    gateway.reload();
    assert_eq!(gateway.count_in_log("reloaded"), 0);
    gateway.command(&["log", "info"]);
    gateway.wait_for_log("the log's level is info from now on");
    gateway.reload();
    gateway.wait_for_log("reloaded: 1 unchanged");
    assert_eq!(gateway.command(&["log", "loud"]).status.code(), Some(2));
}

#[test]
fn an_address_that_passes_from_one_endpoint_to_another_stays_open() {
    let address = free_address();
    let gateway = Gateway::start(&format!("{}{}", show(), plain("old", address)));
    assert!(get(address, "/").body.contains("shown: old"));
    gateway.configure(&format!("{}{}", show(), plain("new", address)));
    assert_eq!(gateway.reload(), "reloaded: added new; removed old; 0 unchanged\n");
    // The accept loop takes its order before what waits behind it.
    assert!(get(address, "/").body.contains("shown: new"));
}

#[test]
fn a_changed_upstream_serves_new_connections_and_counters_go_on() {
    let (old, _) = Upstream::answering(OK);
    let (new, _) = Upstream::answering(&OK.replace("ok", "no"));
    let gateway = Gateway::start(&http_proxy(&[old.address], ""));
    let mut kept = connect(gateway.address("front"));
    assert_eq!(ask(&mut kept, GET).body, "ok");
    gateway.configure(&http_proxy(&[new.address], ""));
    assert_eq!(gateway.reload(), "reloaded: changed front; 0 unchanged\n");
    assert_eq!(get(gateway.address("front"), "/").body, "no");
    assert_eq!(ask(&mut kept, GET).body, "ok", "a connection keeps the plan that it began with");
    gateway.wait_for_metric("portcullis_http_requests_total{endpoint=\"front\",method=\"GET\",code=\"200\"}", 3.0);
}

#[test]
fn unchanged_upstreams_keep_their_pool_and_changed_limits_count_those_who_are_there() {
    let (upstream, _) = Upstream::answering(OK);
    let config = format!("[gateway]\nworkers = 1\n{}", http_proxy(&[upstream.address], ""));
    let gateway = Gateway::start(&config);
    let mut kept = connect(gateway.address("front"));
    assert_eq!(ask(&mut kept, GET).status, 200);
    gateway.configure(&with_front(&config, "max_connections = 1"));
    assert_eq!(gateway.reload(), "reloaded: changed front; 0 unchanged\n");
    assert_eq!(ask(&mut kept, GET).status, 200);
    assert_eq!(read_to_end(&mut connect(gateway.address("front"))).0, b"", "the one that is there counts");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_tcp_stream_lives_on_across_reloads() {
    let upstream = Upstream::start(|mut stream| {
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).unwrap();
        }
    });
    let config = tcp_proxy(&[upstream.address], "");
    let gateway = Gateway::start(&config);
    let mut stream = connect(gateway.address("front"));
    for change in ["", "max_connections = 5"] {
        gateway.configure(&with_front(&config, change));
        gateway.reload();
        stream.write_all(b"still there?").unwrap();
        let mut echoed = [0; 12];
        stream.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"still there?");
    }
}

#[test]
fn sessions_of_an_unchanged_endpoint_are_resumed_after_a_reload() {
    let gateway = Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost"], "")));
    let session = gateway.folder.path().join("session");
    let session = session.to_str().unwrap();
    assert!(s_client(gateway.address("front"), &["-sess_out", session]).answered());
    assert_eq!(gateway.reload(), "reloaded: 1 unchanged\n");
    let again = s_client(gateway.address("front"), &["-sess_in", session]);
    assert!(again.answered() && again.line("Reused, ").starts_with("TLS"), "{}", again.text);
}

#[test]
fn twenty_reloads_under_load_fail_no_request() {
    let (upstream, _) = Upstream::answering(OK);
    let config = http_proxy(&[upstream.address], "");
    let gateway = Gateway::start(&config);
    let (front, stop, asked) =
        (gateway.address("front"), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for kept in [true, true, false, false] {
        let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
        clients.push(std::thread::spawn(move || {
            let mut stream = connect(front);
            while !stop.load(Ordering::Relaxed) {
                if !kept {
                    stream = connect(front);
                }
                assert_eq!(ask(&mut stream, GET).status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for turn in 0..20 {
        // Every other one changes the endpoint.
        let change = format!("max_connections = {}", 1000 + turn / 2);
        gateway.configure(&with_front(&config, &change));
        gateway.reload();
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(gateway.metric(SUCCEEDED), Some(20.0));
    let counted = "portcullis_http_requests_total{endpoint=\"front\",method=\"GET\",code=\"200\"}";
    gateway.wait_for_metric(counted, asked.load(Ordering::Relaxed) as f64);
}

#[test]
fn the_control_socket_is_its_owners_tells_the_status_and_drains() {
    let config = format!("{}{}", show(), plain("front", ([127, 0, 0, 1], 0).into()));
    let mut gateway = Gateway::start(&config);
    let socket = gateway.folder.path().join("control.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let status = stdout(&gateway.command(&["status"]));
    assert!(status.starts_with("serving, up "), "{status}");
    assert!(status.contains("\nfront     internal  ready  0 "), "{status}");
    let config = gateway.folder.path().join("gateway.toml");
    let by_config = crate::support::run(&["status", "--config", config.to_str().unwrap()]);
    assert_eq!(by_config.status.code(), Some(0), "{}", stderr(&by_config));
    let drained = gateway.command(&["drain"]);
    assert!(stdout(&drained).starts_with("draining"), "{}", stderr(&drained));
    assert_eq!(gateway.wait(), 0);
    assert!(!socket.exists());
    let nobody = gateway.command(&["reload"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(stderr(&nobody).contains("cannot ask the gateway"), "{}", stderr(&nobody));
}
