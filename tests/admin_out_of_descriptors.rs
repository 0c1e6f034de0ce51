//! The admin port when every descriptor is in use. Alone in its process, since it lowers the process's limit.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use portcullis::admin::state::{Snapshot, State};
use portcullis::admin::{bind, start};
use portcullis::config::Config;
use portcullis::drain::Drain;
use portcullis::plan::{AdminPlan, Plan};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

#[test]
fn the_admin_port_answers_when_every_descriptor_is_in_use() {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Drain::new();
    let thread = start(listener, State::new(snapshot()), stop.clone()).unwrap();
    // Made before descriptors run out, connected after.
    let clients: Vec<Socket> = (0..3).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let hog = use_up_descriptors();

    for client in clients {
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.connect(&address.into()).unwrap();
        let mut client = TcpStream::from(client);
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // What tells an operator the cause is there although /proc can no longer be opened.
        assert!(answer.contains("\nprocess_open_fds ") && answer.contains("\nprocess_cpu_seconds_total "), "{answer}");
    }
    drop(hog);
    stop.begin();
    thread.join().unwrap();
}

fn use_up_descriptors() -> Vec<File> {
    let limit = Rlimit { current: Some(64), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

fn snapshot() -> Snapshot {
    let plan = Plan {
        config: Config::default(),
        workers: 1,
        drain_timeout: Duration::from_secs(1),
        max_connections: 1,
        admin: Some(AdminPlan { listen: ([127, 0, 0, 1], 0).into(), token: None }),
        endpoints: Vec::new(),
        upstreams: Vec::new(),
    };
    Snapshot { plan: Arc::new(plan), addresses: BTreeMap::new(), tls: BTreeMap::new() }
}
