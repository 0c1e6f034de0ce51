//! One HTTP/2 request's turn: from its head, by way of the service, to the end of its answer.
//!
//! Owns the stream and its place among those in work. Made by `http2` for each request, and run in a task of its own;
//! `sending` sends the answer. `http1/turn` does the same for HTTP/1.1.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};

use super::super::answer::{Link, admitted, no_answer};
use super::super::body::RequestBody;
use super::super::exchange::Exchange;
use super::super::fault::Fault;
use super::super::gate::Gate;
use super::super::hop;
use super::super::{HttpService, Interim, Reply};
use super::conduct::Conduct;
use super::request::check;
use super::sending::{Sent, send};

/// A request's place among those in work, from the moment that h2 hands it on.
#[derive(Debug)]
pub(super) struct Work {
    conduct: Arc<Conduct>,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// There was no place for it yet.
    Waiting,
    /// It is in work.
    Placed,
    /// It was answered, or the service broke its answer off.
    Done,
    /// It was answered with what is wrong with it.
    Refused,
}

impl Work {
    /// Begins with a request that has just come.
    pub(super) fn begin(conduct: &Arc<Conduct>) -> Self {
        conduct.begin();
        Self { conduct: conduct.clone(), stage: Stage::Waiting }
    }

    async fn take_place(&mut self) {
        self.conduct.take_place().await;
        self.stage = Stage::Placed;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        match self.stage {
            Stage::Waiting => self.conduct.count_fault(), // its client gave it up before there was a place for it
            Stage::Placed => self.conduct.clone().given_up(),
            Stage::Done => self.conduct.give_back(),
            Stage::Refused => {
                self.conduct.give_back();
                self.conduct.count_fault();
            }
        }
    }
}

/// A request on its way to its answer.
pub(super) struct Turn<S> {
    link: Link<S>,
    respond: SendResponse<Bytes>,
    // Behind the stream, so that it is dropped after it.
    work: Work,
}

impl<S: HttpService> Turn<S> {
    pub(super) fn new(link: Link<S>, work: Work, respond: SendResponse<Bytes>) -> Self {
        Self { link, respond, work }
    }

    /// Answers the request, once there is a place for it. Boxed at once, since a task's future is moved several times.
    pub(super) fn run(self, request: Request<RecvStream>) -> Pin<Box<impl Future<Output = ()> + Send>> {
        Box::pin(self.answer(request))
    }

    async fn answer(mut self, request: Request<RecvStream>) {
        let is_head = request.method() == Method::HEAD;
        let placed = unless_reset(&mut self.respond, None, pin!(self.work.take_place())).await;
        if placed.is_none() {
            return;
        }
        let (admitted, mut exchange) = admit(&self.link.gate, request);
        let interim = Interim::new(true, exchange.begun());
        let answer = match admitted {
            Ok(request) => {
                let reply = pin!(self.link.service.call(request, &self.link.gate.info, &interim));
                match unless_reset(&mut self.respond, Some((&interim, &exchange)), reply).await {
                    Some(reply) => heard::<S>(reply, &mut exchange),
                    None => {
                        exchange.left();
                        return;
                    }
                }
            }
            Err(fault) => Err(fault),
        };
        let (own, stage) = match answer {
            Ok((head, body)) if !head.status.is_informational() => {
                let sent = send(&mut self.respond, head, body, is_head, &mut exchange).await;
                self.work.stage = if sent == Sent::GivenUp { Stage::Placed } else { Stage::Done };
                return;
            }
            Ok(_) => (no_answer(&mut exchange), Stage::Done),
            Err(fault) => (fault.response(Version::HTTP_2), Stage::Refused),
        };
        let (head, body) = own.into_parts();
        send(&mut self.respond, head, body, is_head, &mut exchange).await;
        self.work.stage = stage;
    }
}

/// What a future comes to; nothing where the client resets the stream meanwhile. `early` tells of interim responses, which are
/// sent as they come.
async fn unless_reset<F: Future>(
    respond: &mut SendResponse<Bytes>,
    early: Option<(&Interim, &Exchange<'_>)>,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if let Some((interim, exchange)) = early {
            if polled.is_pending() && exchange.continues(cx) {
                send_interim(respond, go_on());
            }
            if interim.any() {
                interim.take().into_iter().for_each(|head| send_interim(respond, head));
            }
        }
        match polled {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    })
    .await
}

#[cold]
fn send_interim(respond: &mut SendResponse<Bytes>, mut head: Response<()>) {
    hop::strip(head.headers_mut(), |_| false);
    let _ = respond.send_informational(head); // it fails only where the client has reset the stream
}

fn go_on() -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::CONTINUE;
    head
}

/// The request as the service is to have it, if it may be served.
fn admit(gate: &Arc<Gate>, mut request: Request<RecvStream>) -> (Result<Request<RequestBody>, Fault>, Exchange<'_>) {
    let mut exchange = Exchange::begin(gate, &request);
    exchange.trace(&mut request);
    let checked = check(&mut request, gate.info.scheme()).and_then(|()| admitted(&request, gate));
    if let Err(fault) = checked {
        gate.count_refusal(&fault);
        exchange.refuse(&fault);
        return (Err(fault), exchange);
    }
    let (head, stream) = request.into_parts();
    let (body, intake) = RequestBody::http2(stream, &head.headers, gate);
    exchange.share(intake);
    (Ok(Request::from_parts(head, body)), exchange)
}

/// The service's answer; or the engine's to a fault in the body, whatever the service made of it.
fn heard<S: HttpService>(reply: Reply<S::Body>, exchange: &mut Exchange<'_>) -> Result<(Parts, S::Body), Fault> {
    if let Some(fault) = exchange.body_fault() {
        exchange.refuse(&fault);
        return Err(fault);
    }
    let (mut head, body, told) = reply.into_parts();
    exchange.answered(head.status, told);
    if !S::ANSWERS_END_TO_END {
        hop::strip(&mut head.headers, |_| false);
    }
    Ok((head, body))
}
