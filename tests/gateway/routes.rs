//! Routes of the `http-proxy` handler: what they match, and what they do, through the socket and by `check`.

use std::io::{Read, Write};

use crate::support::client::{ask, connect};
use crate::support::upstream::Upstream;
use crate::support::{Folder, Gateway, http_proxy, run, stderr};

/// An upstream that answers with the head that it got.
fn mirror() -> Upstream {
    Upstream::start(|mut stream| {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while stream.read(&mut byte).is_ok_and(|n| n > 0) {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                let fields = "X-Powered-By: mirror\r\nX-Kind: upstream";
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {}\r\n\r\n", head.len());
                let _ = stream.write_all(&std::mem::take(&mut head));
            }
        }
    })
}

/// A gateway before a mirror, with a second endpoint `back` of the same class as `front`, internal; `routes` are tables.
fn gateway(upstream: &Upstream, routes: &str) -> Gateway {
    let back = "[endpoints.back]\nlisten = \"127.0.0.1:0\"\nclass = \"public\"\nhandler = \"site\"";
    Gateway::start(&http_proxy(&[upstream.address], &format!("{routes}\n{back}")))
}

#[test]
fn the_internal_door_reaches_what_the_public_one_cannot() {
    let upstream = mirror();
    let routes = "[[handlers.site.routes]]\npath = \"/private/\"\nclass = \"public\"\nrespond = { status = 403 }";
    let gateway = gateway(&upstream, routes);
    let get = "GET /private/x HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(ask(&mut connect(gateway.address("back")), get).status, 403);
    assert_eq!(ask(&mut connect(gateway.address("front")), get).status, 200);
}

#[test]
fn a_method_and_a_field_choose_a_route() {
    let upstream = mirror();
    let routes = "[[handlers.site.routes]]\nmethods = [\"DELETE\"]\nrespond = { status = 405 }\n\
        [[handlers.site.routes]]\nheaders = { X-Probe = \"*\" }\nrespond = { status = 204 }";
    let gateway = gateway(&upstream, routes);
    let mut client = connect(gateway.address("front"));
    for (request, status) in [
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nx-probe: 1\r\n\r\n", 204),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ] {
        assert_eq!(ask(&mut client, request).status, status, "{request}");
    }
}

#[test]
fn a_client_is_sent_elsewhere() {
    let upstream = mirror();
    let routes = "[[handlers.site.routes]]\npath = \"/old\"\nredirect = { to = \"/new{rest}{query}\", status = 301 }\n\
        [[handlers.site.routes]]\nhost = \"plain.example\"\nredirect = { to = \"https://{host}{path}{query}\" }";
    let gateway = gateway(&upstream, routes);
    let mut client = connect(gateway.address("front"));
    for (target, host, status, location) in [
        ("/old/a?b=c", "x", 301, "/new/a?b=c"),
        ("/old", "x", 301, "/new"),
        ("/%61/../b//c", "plain.example:8080", 308, "https://plain.example/b//c"),
    ] {
        let answer = ask(&mut client, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.field("location")), (status, Some(location)), "{target}");
    }
}

#[test]
fn another_prefix_takes_the_place_of_the_routes() {
    let upstream = mirror();
    let routes = "[[handlers.site.routes]]\npath = \"/api/v1\"\nreplace_path = \"/\"\nupstream = \"app\"\n\
        [[handlers.site.routes]]\npath = \"/app\"\nreplace_path = \"/srv/app/\"\nupstream = \"app\"";
    let gateway = gateway(&upstream, routes);
    let mut client = connect(gateway.address("front"));
    for (target, seen) in [
        ("/api/v1/users?x=%2F", "GET /users?x=%2F HTTP/1.1"),
        ("/api/v1", "GET / HTTP/1.1"),
        ("/api/v1/", "GET / HTTP/1.1"),
        ("/app/x/../y", "GET /srv/app/y HTTP/1.1"),
        ("/api/v10", "GET /api/v10 HTTP/1.1"),
    ] {
        let answer = ask(&mut client, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(answer.body.starts_with(&format!("{seen}\r\n")), "{target}: {}", answer.body);
    }
    let answer = ask(&mut client, "GET /api/v1//evil/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 400, "two slashes would begin a host");
}

#[test]
fn fields_are_set_added_and_removed_both_ways() {
    let upstream = mirror();
    let routes = "[[handlers.site.routes]]\npath = \"/gone\"\nrespond = { status = 410 }\n\
        response_headers = { set = { X-Gone = \"yes\" } }\n\
        [[handlers.site.routes]]\nupstream = \"app\"\n\
        request_headers = { set = { Host = \"inner\", X-Tenant = \"blue\" }, add = { X-More = \"2\" }, remove = [\"Cookie\"] }\n\
        response_headers = { set = { Strict-Transport-Security = \"max-age=1\" }, remove = [\"X-Powered-By\"] }";
    let gateway = gateway(&upstream, routes);
    let mut client = connect(gateway.address("front"));
    let asked = "GET / HTTP/1.1\r\nHost: outer\r\nCookie: a\r\nX-Tenant: red\r\nX-More: 1\r\n\r\n";
    let answer = ask(&mut client, asked);
    let seen: Vec<String> = answer.body.lines().map(str::to_ascii_lowercase).collect();
    for line in ["host: inner", "x-tenant: blue", "x-more: 1", "x-more: 2", "x-forwarded-host: outer"] {
        assert!(seen.iter().any(|seen| seen == line), "{line}: {seen:?}");
    }
    assert!(!seen.iter().any(|line| line.starts_with("cookie") || line == "x-tenant: red" || line == "host: outer"));
    assert_eq!(answer.field("strict-transport-security"), Some("max-age=1"));
    assert_eq!((answer.field("x-powered-by"), answer.field("x-kind")), (None, Some("upstream")));

    let gone = ask(&mut client, "GET /gone HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((gone.status, gone.field("x-gone")), (410, Some("yes")));
}

#[test]
fn check_names_every_route_that_is_wrong_or_never_reached() {
    let folder = Folder::new();
    let routes = "[[handlers.site.routes]]\npath = \"/a\"\nupstream = \"app\"\n\
        [[handlers.site.routes]]\npath = \"/a/b\"\nmethods = [\"GET\"]\nrespond = { status = 403 }\n\
        [[handlers.site.routes]]\nclass = \"public\"\nrespond = { status = 403 }\n\
        [[handlers.site.routes]]\nmethods = [\"get\"]\nredirect = { to = \"//evil\", status = 200 }\n\
        [[handlers.site.routes]]\npath = \"/b\"\nrespond = { status = 200 }\nreplace_path = \"/c\"\n\
        request_headers = { set = { Connection = \"x\" } }\n";
    let config = http_proxy(&[([127, 0, 0, 1], 9).into()], routes);
    let path = folder.write("gateway.toml", config);
    let output = run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let errors = stderr(&output);
    for part in [
        "route 0 (counted from 0) matches all that it does",
        "this handler serves no endpoint that the route is for",
        "\"get\" is not a method",
        "\"//evil\" is no place to go",
        "200 is not a redirection",
        "nothing is passed on",
        "connection is the gateway's to set",
    ] {
        assert!(errors.contains(part), "{part}:\n{errors}");
    }
}

#[test]
fn slashes_that_are_encoded_twice_go_on_where_that_is_wanted_and_never_past_a_route() {
    let upstream = mirror();
    let ask = |gateway: &Gateway, path: &str| {
        ask(&mut connect(gateway.address("front")), format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
    };
    let guard = "[[handlers.site.routes]]\npath = \"/private/\"\nrespond = { status = 403 }";
    let strict = gateway(&upstream, guard);
    let lax = gateway(&upstream, &format!("double_encoded_slashes = true\n{guard}"));
    let job = "/job/feature%252Fone/build";
    let refused = ask(&strict, job);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("a slash that is encoded twice"), "{}", refused.body);
    let passed = ask(&lax, job);
    assert!(passed.status == 200 && passed.body.starts_with(&format!("GET {job} ")), "{}", passed.body);
    for path in
        ["/private%252Fx", "/%2570rivate/x", "/x/%252e%252e/private", "/x%252F..%252Fprivate", "/%25252fprivate"]
    {
        assert_eq!((ask(&strict, path).status, ask(&lax, path).status), (400, 400), "{path}");
    }
}
