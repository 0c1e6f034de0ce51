//! A tower service of one's own behind two endpoints: `cargo run --example serve_a_service`, then
//! `curl http://127.0.0.1:8080/` and `curl http://127.0.0.1:8081/`.

use std::convert::Infallible;
use std::error::Error;

use http_body_util::Full;
use hyper::{Request, Response, body::Bytes};
use portcullis::gateway::{Gateway, Signals};
use portcullis::handler::http::{HttpHandler, RequestBody, TowerService};

const CONFIG: &str = r#"
[admin]
listen = "off"
[endpoints]
internal = { listen = "127.0.0.1:8080", class = "internal", handler = "hello" }
partners = { listen = "127.0.0.1:8081", class = "public", handler = "hello" }
"#;

fn main() -> Result<(), Box<dyn Error>> {
    // Called once for each endpoint; any tower service will do, an axum `Router` too.
    let handler = HttpHandler::new(|endpoint, _settings| {
        let greeting = format!("you came in by {} ({})\n", endpoint.name, endpoint.class);
        Ok(TowerService::new(tower::service_fn(move |_: Request<RequestBody>| {
            let body = Full::<Bytes>::from(greeting.clone());
            async { Ok::<_, Infallible>(Response::new(body)) }
        })))
    });
    // Watched from the beginning, so that no signal finds the gateway half started.
    let signals = Signals::watch()?;
    Ok(Gateway::builder(CONFIG.parse()?).handler("hello", handler).start()?.serve_until(signals)?)
}
