//! `POST /take-over` and `POST /upgrade`: another process takes over, by its own wish or by ours.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tracing::{info, warn};

use super::Wishes;
use crate::admin::answer::Answer;
use crate::handover::{self, PROTOCOL};

/// How long a successor may take until it serves: it reads and audits every chain.
const START: Duration = Duration::from_secs(240);

/// Switches to the protocol by which sockets are handed over.
pub(super) fn begin(mut request: Request<Incoming>, wishes: &Wishes) -> Response<Full<Bytes>> {
    if request.headers().get(UPGRADE).is_none_or(|protocol| protocol != PROTOCOL) {
        let why = "this is for another gateway, started with --take-over";
        return Answer::refuse(StatusCode::UPGRADE_REQUIRED, why).into_response();
    }
    tokio::spawn(hand_over(hyper::upgrade::on(&mut request), wishes.clone()));
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

async fn hand_over(upgrade: OnUpgrade, wishes: Wishes) {
    let Some(stream) = upgrade.await.ok().and_then(unix_stream) else { return };
    // It blocks, for as long as the successor takes to start.
    let given = std::thread::Builder::new().name("handover".into()).spawn(move || {
        match handover::give(stream, &wishes.spares, || wishes.handed_over.begin()) {
            Ok(()) => info!("another gateway has taken over every listening socket"),
            Err(error) => {
                warn!("another gateway began to take over and did not come to serve: {error}; nothing changed")
            }
        }
    });
    if let Err(error) = given {
        warn!("cannot hand over: {error}");
    }
}

/// The socket under an upgraded connection. Its client waits for our first word, so nothing was read ahead.
fn unix_stream(upgraded: Upgraded) -> Option<UnixStream> {
    let parts = upgraded.downcast::<TokioIo<tokio::net::UnixStream>>().ok()?;
    parts.io.into_inner().into_std().ok()
}

/// Starts the program that is installed now, and waits until it has taken over.
pub(super) async fn upgrade(wishes: &Wishes, control: &Path) -> Answer {
    let failed = |why: String| Answer::json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "errors": [why] }));
    let Some(successor) = &wishes.successor else {
        return failed("this gateway does not know how to start another".into());
    };
    let program = successor.program.display();
    let end = match successor.start(control) {
        Ok(end) => end,
        Err(error) => return failed(format!("cannot start {program}: {error}")),
    };
    info!("upgrade: started {program}");
    tokio::select! {
        () = wishes.handed_over.begun() => Answer::json(StatusCode::OK, &json!({ "handed_over": true })),
        ended = end => {
            let how = ended.map_or_else(|_| "it ended".into(), |ended| ended.map_or_else(|e| e.to_string(), |s| s.to_string()));
            failed(format!("the new process did not come to serve ({how}); its errors are in the log, and this one serves on"))
        }
        () = tokio::time::sleep(START) => failed(format!("the new process does not serve after {START:?}; this one serves on")),
    }
}
