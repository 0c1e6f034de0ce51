//! The real binary with configurations that it must refuse: everything that is wrong is listed with its place, the
//! status is 1, and no port was opened.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use crate::support::peers::free_address;
use crate::support::{Folder, Gateway, PATIENCE, cert, portcullis, run, stderr, stdout};

/// What `run` says of a configuration, the folder's name taken out; it must end with status 1.
fn refused(config: &str) -> String {
    let folder = Folder::new();
    let path = folder.write("gateway.toml", config);
    let output = run(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    stderr(&output).replace(&format!("{}/", folder.path().display()), "")
}

/// A configuration that is right, on one address.
fn right(address: SocketAddr) -> String {
    format!(
        "[endpoints.front]\nlisten = \"{address}\"\nhandler = \"site\"\n\
         [handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n\
         [upstreams.app]\nservers = [\"127.0.0.1:9\"]\n[admin]\nlisten = \"off\"\n"
    )
}

#[test]
fn every_word_that_is_not_known_is_listed_with_file_line_and_column_and_the_nearest_known_one() {
    let said = refused(
        "[gateway]\nworker = 2\n[log]\nlevel = \"inof\"\n[endpoints.front]\nlisten = 8080\nhandlr = \"site\"\n\
         class = \"publik\"\n[handlers.site]\ntype = \"http-proxi\"\n[upstreams.app]\nservers = [\"127.0.0.1:9\"]\nport = 1\n",
    );
    let expected = [
        "gateway.toml:2:1: gateway.worker: unknown key; did you mean \"workers\"?",
        "gateway.toml:4:9: log.level: \"inof\" is not",
        "gateway.toml:6:10: endpoints.front.listen: expected",
        "gateway.toml:7:1: endpoints.front.handlr: unknown key; did you mean \"handler\"?",
        "gateway.toml:8:9: endpoints.front.class: \"publik\" is not",
        "gateway.toml:10:8: handlers.site.type: \"http-proxi\" is not",
        "gateway.toml:13:1: upstreams.app.port: unknown key",
    ];
    for line in expected {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    assert!(said.contains("endpoints.front.handler: missing"), "{said}");
    assert!(said.ends_with("portcullis: 8 errors\n"), "{said}");
}

#[test]
fn every_value_that_makes_no_sense_is_listed_with_its_place() {
    let said = refused(
        "[gateway]\ndrain_timeout = \"soon\"\n[endpoints.front]\nlisten = [\"127.0.0.1:80800\"]\nhandler = \"site\"\n\
         allow = [\"10.0.0.0/8\", \"10.0.0.0/33\"]\nmax_connections = 0\n[endpoints.front.timeouts]\nidle = \"0s\"\n\
         [handlers.site]\ntype = \"http-proxy\"\nupstream = \"app\"\n[upstreams.app]\nservers = [\"localhost\"]\n",
    );
    for place in [
        "gateway.toml:2:17: gateway.drain_timeout: ",
        "gateway.toml:4:11: endpoints.front.listen.0: ",
        "gateway.toml:6:24: endpoints.front.allow.1: \"10.0.0.0/33\" is not a network; ",
        "gateway.toml:7:19: endpoints.front.max_connections: ",
        "gateway.toml:9:8: endpoints.front.timeouts.idle: ",
        "gateway.toml:14:12: upstreams.app.servers.0: ",
    ] {
        assert!(said.contains(place), "{place:?} is not in\n{said}");
    }
    assert!(said.ends_with("portcullis: 6 errors\n"), "{said}");
}

#[test]
fn a_handler_that_does_not_exist_is_named_with_the_nearest_that_does() {
    let said = refused(&right(free_address()).replace("handler = \"site\"", "handler = \"sitee\""));
    assert!(said.contains("gateway.toml:3:11: endpoints.front.handler: no handler is called \"sitee\"; "), "{said}");
    assert!(said.contains("did you mean \"site\"?"), "{said}");
}

#[test]
fn an_upstream_that_does_not_exist_is_named_with_the_nearest_that_does() {
    for kind in ["http-proxy", "tcp-proxy"] {
        let config =
            right(free_address()).replace("http-proxy", kind).replace("upstream = \"app\"", "upstream = \"appp\"");
        let said = refused(&config);
        assert!(said.contains("gateway.toml:6:12: handlers.site.upstream: "), "{said}");
        assert!(said.contains("\"appp\"") && said.contains("did you mean \"app\"?"), "{said}");
    }
}

#[test]
fn a_route_that_leads_nowhere_is_named_by_its_place() {
    let routes = "[[handlers.site.routes]]\npath = \"/a\"\nupstream = \"api\"\n[[handlers.site.routes]]\npath = \"/b\"\n\
        endpoints = [\"back\"]\nrespond = { status = 200 }\n[[handlers.site.routes]]\nhost = \"a b\"\n";
    let said = refused(&format!("{}{routes}", right(free_address())));
    for place in [
        "gateway.toml:13:12: handlers.site.routes.0.upstream: ",
        "gateway.toml:16:14: handlers.site.routes.1.endpoints.0: ",
        "gateway.toml:19:8: handlers.site.routes.2.host: ",
    ] {
        assert!(said.contains(place), "{place:?} is not in\n{said}");
    }
}

#[test]
fn two_endpoints_on_one_address_are_refused_by_name() {
    let address = free_address();
    let second = format!("[endpoints.second]\nlisten = \"{address}\"\nhandler = \"site\"\n");
    let said = refused(&format!("{}{second}", right(address)));
    assert!(said.contains("gateway.toml:12:10: endpoints.second.listen"), "{said}");
    assert!(said.contains(&format!("{address} is taken by endpoint \"front\"")), "{said}");
}

#[test]
fn a_gateway_with_one_endpoint_that_is_wrong_opens_no_other() {
    let address = free_address();
    // Whoever holds the port would keep the gateway from it: a gateway that tried would say so.
    let holder = TcpListener::bind(address).unwrap();
    let wrong = "[endpoints.wrong]\nlisten = \"127.0.0.1:0\"\nhandler = \"nobody\"\n";
    let said = refused(&format!("{}{wrong}", right(address)));
    assert!(said.contains("endpoints.wrong.handler") && !said.contains("cannot listen"), "{said}");
    drop(holder);
    // A process that another test starts has our descriptors until its exec.
    let start = Instant::now();
    while TcpListener::bind(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "{address} is held");
        std::thread::yield_now();
    }
}

#[test]
fn a_port_that_is_in_use_is_refused_by_endpoint_and_none_is_left_open() {
    let (free, used) = (free_address(), TcpListener::bind("127.0.0.1:0").unwrap());
    let used_address = used.local_addr().unwrap();
    let second = format!("[endpoints.second]\nlisten = \"{used_address}\"\nhandler = \"site\"\n");
    let said = refused(&format!("{}{second}", right(free)));
    assert!(said.contains(&format!("endpoint \"second\": cannot listen on {used_address}: ")), "{said}");
    assert!(said.contains("another process listens there"), "{said}");
    TcpListener::bind(free).expect("the other endpoint's port is free again");
}

#[test]
fn a_port_that_another_gateway_serves_is_not_shared_with_it() {
    let (upstream, _) = crate::support::upstream::Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::start(&crate::support::http_proxy(&[upstream.address], ""));
    let said = refused(&right(gateway.address("front")));
    assert!(said.contains("cannot listen on"), "{said}");
}

#[test]
fn a_server_name_that_no_certificate_can_cover_is_an_error_of_the_configuration() {
    let chain = format!("{{ chain = {:?}, key = {:?} }}", cert("localhost.pem"), cert("localhost.key"));
    let said = refused(&format!(
        "[handlers.site]\ntype = \"echo\"\n[endpoints.front]\nlisten = \"127.0.0.1:0\"\nhandler = \"site\"\n\
         [endpoints.front.tls]\ncertificates = [{chain}]\nserver_names = [\"localhost\", \"a b\", \"\", \"w*.example.com\"]\n"
    ));
    for part in ["server_names.1: \"a b\" is no name", "server_names.2: \"\" is no name", "server_names.3: \"w*"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(said.ends_with("portcullis: 3 errors\n"), "{said}");
}

#[test]
fn a_file_that_is_missing_empty_or_no_toml_is_refused() {
    let output = run(&["run", "--config", "/nowhere/gateway.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere/gateway.toml"), "{}", stderr(&output));
    assert!(refused("").contains("there is no endpoint"));
    assert!(refused("[endpoints.front\n").contains("gateway.toml:1:"));
    assert!(refused("a = 1\na = 2\n").contains("gateway.toml:2:1: "));
}

#[test]
fn the_environment_names_the_configuration_where_the_command_line_does_not() {
    let folder = Folder::new();
    let path = folder.write("gateway.toml", "[gateway]\nworker = 2\n");
    let output = portcullis(&["run"]).env("PORTCULLIS_CONFIG", path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("gateway.worker: unknown key"), "{}", stderr(&output));
}
