//! What the admin port and `portcullis status` tell of upstreams.

use super::{ONE_WORKER, POST, answers, counted, of_server, tally};
use crate::support::client::get;
use crate::support::peers::free_address;
use crate::support::upstream::Upstream;
use crate::support::{Gateway, http_proxy, stdout, with_app};

#[test]
fn a_server_that_is_ejected_or_down_is_told_with_the_reason() {
    let (dying, alive) = (Upstream::dying(), Upstream::saying("ok"));
    let gateway = Gateway::start(&http_proxy(&[dying.address, alive.address], ONE_WORKER));
    assert_eq!(tally(&answers(&gateway, POST, 40)), counted(&[("502", 5), ("ok", 35)]));
    let all = gateway.json("/upstreams");
    let app = &all["upstreams"][0];
    assert_eq!(
        (&app["name"], &app["servers_total"], &app["servers_usable"]),
        (&"app".into(), &2.into(), &1.into()),
        "{all:#}"
    );
    let one = gateway.json("/upstreams/app");
    let servers = one["servers"].as_array().unwrap();
    let [out, up] = [dying.address, alive.address]
        .map(|address| servers.iter().find(|server| server["name"] == address.to_string()).unwrap());
    assert_eq!(
        (&up["usable"], &up["addresses"][0]["state"], &up["requests"]),
        (&true.into(), &"up".into(), &35.into()),
        "{one:#}"
    );
    assert!(up["last_failure"].is_null() && up["responses"]["2xx"] == 35 && up["weight"] == 1, "{up:#}");
    assert_eq!(
        (&out["usable"], &out["addresses"][0]["state"], &out["ejections"]),
        (&false.into(), &"ejected".into(), &1.into())
    );
    assert!(out["addresses"][0]["ejected_for_seconds"].as_f64().unwrap() > 0.0, "{out:#}");
    assert_eq!((&out["last_failure"]["reason"], &out["failures"]["closed"]), (&"closed".into(), &5.into()), "{out:#}");
    assert!(out["last_failure"]["at"].as_str().unwrap().starts_with("20"), "{out:#}");
    let status = stdout(&gateway.command(&["status"]));
    assert!(status.contains("\napp       1 of 2      0        0        0\n"), "{status}");

    let unknown = gateway.get("/upstreams/none");
    assert!(unknown.status == 404 && unknown.body.contains("\"app\""), "{unknown:?}");
}

#[test]
fn the_last_check_and_the_last_lookup_are_told_with_their_errors() {
    let dead = free_address();
    let health = "health = { path = \"/\", interval = \"100ms\", timeout = \"5s\", unhealthy = 1 }";
    let config = with_app(&http_proxy(&[dead], ""), health);
    let named = format!("[upstreams.named]\nservers = [\"localhost:{}\"]\n", dead.port());
    let route = "[[handlers.site.routes]]\npath = \"/named\"\nupstream = \"named\"";
    let gateway = Gateway::start(&format!("{config}{route}\n{named}"));
    gateway.wait_for_metric(&of_server("server_healthy", dead), 0.0);
    let app = gateway.json("/upstreams/app");
    let server = &app["servers"][0];
    let check = &server["addresses"][0]["last_check"];
    assert!(
        check["error"].as_str().unwrap().contains("refused") && server["checks"]["failed"].as_u64() > Some(0),
        "{app:#}"
    );
    assert_eq!(
        (&server["addresses"][0]["state"], &server["lookups"]),
        (&"down".into(), &serde_json::Value::Null),
        "{app:#}"
    );
    let lookups = format!(
        "portcullis_upstream_lookups_total{{upstream=\"named\",server=\"localhost:{}\",result=\"passed\"}}",
        dead.port()
    );
    gateway.wait_for_some(&lookups);
    let named = gateway.json("/upstreams/named");
    let last = &named["servers"][0]["lookups"]["last"];
    assert!(last["error"].is_null() && last["again_after_seconds"].as_f64().unwrap() >= 1.0, "{named:#}");
    assert_eq!(named["servers"][0]["addresses"][0]["address"], dead.to_string(), "{named:#}");
}

#[test]
fn an_endpoint_tells_its_routes_and_how_often_they_were_taken() {
    let upstream = Upstream::saying("ok");
    let routes = "[[handlers.site.routes]]\nname = \"away\"\npath = \"/away\"\nrespond = { status = 403 }";
    let gateway = Gateway::start(&http_proxy(&[upstream.address], routes));
    get(gateway.address("front"), "/away");
    gateway
        .wait_for_metric("portcullis_http_route_requests_total{endpoint=\"front\",route=\"away\",code=\"4xx\"}", 1.0);
    let routes = gateway.json("/endpoints/front")["routes"].clone();
    assert_eq!((&routes[0]["name"], &routes[0]["requests"]["4xx"]), (&"away".into(), &1.into()), "{routes:#}");
    assert_eq!((&routes[1]["name"], &routes[1]["upstream"]), (&"default".into(), &"app".into()), "{routes:#}");
}
