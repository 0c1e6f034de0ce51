//! One request's turn on an HTTP/1.1 connection: from its head, by way of the service, to the end of its answer.
//!
//! Owns the two streams that may run at once: the request's body to whoever asks for it (`handover`), and the answer to
//! the client (`framing`). Both are driven here, in the connection's task, with the service's future in place.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Frame};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::time::Instant;

use super::super::answer::{admitted, no_answer};
use super::super::body::RequestBody;
use super::super::challenge;
use super::super::exchange::{Exchange, driven};
use super::super::fault::Fault;
use super::super::head::{Accepted, BodyKind};
use super::super::interim::Interim;
use super::super::scan::{Phase, Piece};
use super::super::upgrade::{Switch, offer};
use super::super::{BoxError, HttpService, Reply, Told};
use super::framing::{self, Framing, Terms};
use super::handover::{Feed, pair};
use super::output::Output;
use super::request::{begin, trailers};
use super::{Http1, client};
use crate::drain::Watch;
use crate::handler::{ServeError, Side};

/// How large a map of fields may be to be used again.
const SPARE: usize = 128;

/// What becomes of the connection after an answer.
pub(super) enum Then {
    /// It waits for the next request.
    Next,
    /// It ends.
    End,
    /// It speaks another protocol.
    Switch(Switch),
}

/// What one exchange has in hand.
pub(super) struct Turn<'a> {
    pub(super) exchange: Exchange<'a>,
    /// Where the request's body goes; `None` where it has none.
    pub(super) feed: Option<Feed>,
    pub(super) terms: Terms,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            self.exchange.received(feed.taken());
        }
    }
}

impl Http1<'_> {
    /// Serves the request whose head was accepted.
    pub(super) async fn turn<S: HttpService>(
        &mut self,
        service: &S,
        accepted: Accepted,
        drain: &mut Watch,
    ) -> Result<Then, ServeError> {
        let (feed, body) = match accepted.body {
            BodyKind::Length(0) => (None, RequestBody::empty()),
            BodyKind::Length(length) => handing(Some(length)),
            BodyKind::Chunked => handing(None),
        };
        let mut request = Request::new(body);
        if let Err(fault) = self.take_head(&accepted, &mut request) {
            let is_head = request.method() == Method::HEAD;
            drop(request); // no wait keeps it, so that the future has no room for it
            return self.refuse(fault, is_head, drain).await.map(|()| Then::End);
        }
        let Accepted { is_11, keep, wants_trailers, .. } = accepted;
        let terms = Terms { is_11, is_head: request.method() == Method::HEAD, wants_trailers, keep };
        let mut turn = Turn { exchange: Exchange::begin(self.gate, &request), feed, terms };
        turn.exchange.trace(&mut request);
        if let Err(fault) = admitted(&request, self.gate) {
            let version = request.version();
            drop(request); // and its body with it, which nobody reads
            return self.turn_away(&fault, version, turn, drain).await;
        }
        if let Some(response) = challenge::answer(self.gate, &request) {
            drop(request);
            turn.terms.keep = false;
            turn.exchange.answered(response.status(), Told::default());
            self.answer(*response, &mut turn, drain).await?;
            return Ok(Then::End);
        }
        self.room = self.gate.context.limits.body.unwrap_or(u64::MAX);
        self.pace.rest();
        if turn.feed.is_some() {
            self.hand_over(&mut turn, Waker::noop()); // what came along with the head; nobody waits for it yet
        }
        self.expects = accepted.expects_continue;
        let switch = accepted.upgrade.then(|| offer(request.extensions_mut(), self.gate.context.timeouts));
        let interim = Interim::new(is_11, turn.exchange.begun());
        let asked = match self.fault {
            Some(fault) => Err(fault),
            None => {
                let call = pin!(service.call(request, &self.gate.info, &interim));
                self.ask(call, &interim, &mut turn).await?
            }
        };
        self.expects = false;
        let (mut head, body, told) = match asked {
            Ok(reply) => reply.into_parts(),
            Err(fault) => {
                turn.exchange.refuse(&fault);
                self.answer(fault.response(Version::HTTP_11), &mut turn, drain).await?;
                return Ok(Then::End);
            }
        };
        turn.exchange.answered(head.status, told);
        let switch = match switch {
            _ if !head.status.is_informational() => None,
            Some(switch) if self.may_switch(head.status) => Some(switch),
            _ => {
                turn.terms.keep = false;
                self.answer(no_answer(&mut turn.exchange), &mut turn, drain).await?;
                return Ok(Then::End);
            }
        };
        self.send(&mut head, pin!(body), &mut turn, drain).await?;
        if let Some(switch) = switch {
            return Ok(Then::Switch(switch));
        }
        let goes_on = turn.terms.keep && self.fault.is_none() && !self.is_cut && self.pass_over_body();
        Ok(if goes_on { Then::Next } else { Then::End })
    }

    /// Answers a request that is read well and yet not served.
    async fn turn_away(
        &mut self,
        fault: &Fault,
        version: Version,
        mut turn: Turn<'_>,
        drain: &mut Watch,
    ) -> Result<Then, ServeError> {
        if fault.ends_connection() {
            self.fail(&mut turn, Waker::noop(), *fault);
        } else {
            self.gate.count_refusal(fault);
            turn.exchange.failed(fault);
        }
        turn.exchange.refuse(fault);
        self.answer(fault.response(version), &mut turn, drain).await?;
        let goes_on = turn.terms.keep && self.fault.is_none() && self.pass_over_body();
        Ok(if goes_on { Then::Next } else { Then::End })
    }

    /// Takes the head off what was read, for a request.
    fn take_head(&mut self, accepted: &Accepted, request: &mut Request<RequestBody>) -> Result<(), Fault> {
        let head = self.wire.input.split_to(accepted.len).freeze();
        begin(request, head, accepted, self.scanner.head().fields(), &mut self.spare)
    }

    /// Waits for the service's answer, and meanwhile lets it have the request's body. A fault in the request is answered
    /// by its own status, whatever the service would make of it; that is asked no further.
    async fn ask<B>(
        &mut self,
        mut call: Pin<&mut impl Future<Output = Reply<B>>>,
        interim: &Interim,
        turn: &mut Turn<'_>,
    ) -> Result<Result<Reply<B>, Fault>, ServeError> {
        poll_fn(|cx| {
            loop {
                let polled = call.as_mut().poll(cx);
                if interim.any() {
                    self.write_interim(interim);
                }
                if let Poll::Ready(reply) = polled {
                    return Poll::Ready(Ok(Ok(reply)));
                }
                if let Err(error) = ready!(self.poll_feed(cx, turn)) {
                    turn.exchange.left();
                    return Poll::Ready(Err(error));
                }
                if let Some(fault) = self.fault {
                    return Poll::Ready(Ok(Err(fault)));
                }
            }
        })
        .await
    }

    /// Writes the heads that go before the answer, of which there are some; a client that takes nothing is spared them.
    #[cold]
    fn write_interim(&mut self, interim: &Interim) {
        for head in interim.take() {
            if self.wire.output.has_room() {
                framing::interim(&mut self.wire.output, &head.into_parts().0);
            }
        }
    }

    /// Only 101 switches, and only when every byte of the request was HTTP.
    fn may_switch(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS && self.scanner.phase() == Phase::Between
    }

    /// Ready when the service is to be asked again: what it waits for, of the request's body, has come.
    fn poll_feed(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> Poll<Result<(), ServeError>> {
        let is_wanted = turn.feed.as_ref().is_some_and(|feed| feed.is_wanted(cx));
        if is_wanted && mem::take(&mut self.expects) && self.wire.input.is_empty() {
            self.wire.output.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let _ = self.wire.poll_send(cx).map_err(client)?; // whether it is taken shows when the answer is
        if !is_wanted {
            self.pace.rest();
            self.wire.check_reset(cx).map_err(client)?;
            return Poll::Pending;
        }
        while !self.hand_over(turn, cx.waker()) {
            match self.wire.poll_fill(cx).map_err(client)? {
                Poll::Ready(true) => self.since = None,
                Poll::Ready(false) => {
                    self.is_cut = true;
                    turn.break_off(cx.waker(), "the client left within its body");
                    break;
                }
                Poll::Pending => {
                    let since = *self.since.get_or_insert_with(Instant::now);
                    let late = ready!(self.pace.poll(cx, &mut self.clock, since, self.gate.context.timeouts.body));
                    self.fail(turn, cx.waker(), late.fault());
                    break;
                }
            }
        }
        self.since = None;
        Poll::Ready(Ok(()))
    }

    /// Hands the next piece of the body over, from what was read; false where there is none.
    fn hand_over(&mut self, turn: &mut Turn<'_>, task: &Waker) -> bool {
        loop {
            let Some(feed) = &turn.feed else { return false };
            match self.scanner.next_piece(&self.wire.input) {
                Ok(Piece::More) => return false,
                Ok(Piece::Framing(n)) => {
                    self.wire.input.advance(n);
                    continue;
                }
                Ok(Piece::Data(n)) if n as u64 > self.room => self.fail(turn, task, Fault::BODY_TOO_LARGE),
                Ok(Piece::Data(n)) => {
                    self.room -= n as u64;
                    self.pace.add(n);
                    let data = self.wire.input.split_to(n).freeze();
                    feed.put(task, Frame::data(data), self.scanner.phase() != Phase::Body);
                }
                Ok(Piece::Trailers(n)) => match trailers(&self.wire.input.split_to(n).freeze()) {
                    Ok(Some(trailers)) => feed.put(task, Frame::trailers(trailers), true),
                    Ok(None) => feed.end(task),
                    Err(fault) => self.fail(turn, task, Fault::chunk(fault.detail)),
                },
                Err(fault) => self.fail(turn, task, fault),
            }
            return true;
        }
    }

    /// The body is broken: the service is told, and the connection ends with its answer.
    #[cold]
    fn fail(&mut self, turn: &mut Turn<'_>, task: &Waker, fault: Fault) {
        self.gate.count_refusal(&fault);
        turn.exchange.failed(&fault);
        turn.break_off(task, fault.detail);
        self.fault = Some(fault);
    }

    /// Passes over what nobody has read of the body; false where not all of it is here: the connection ends, since what
    /// comes must never be taken for a request.
    fn pass_over_body(&mut self) -> bool {
        while self.scanner.phase() == Phase::Body {
            match self.scanner.next_piece(&self.wire.input) {
                Ok(Piece::Framing(n) | Piece::Data(n) | Piece::Trailers(n)) => self.wire.input.advance(n),
                Ok(Piece::More) | Err(_) => return false,
            }
        }
        true
    }

    /// Sends an answer of the engine's, to its last byte. Boxed, as whatever is rare is, so that no other request's future has
    /// room for it.
    #[cold]
    pub(super) fn answer<'f>(
        &'f mut self,
        response: Response<Full<Bytes>>,
        turn: &'f mut Turn<'_>,
        drain: &'f mut Watch,
    ) -> Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send + 'f>> {
        Box::pin(async move {
            let (mut head, body) = response.into_parts();
            self.send(&mut head, pin!(body), turn, drain).await
        })
    }

    /// Sends an answer, to its last byte. Its fields are left to the next request.
    async fn send<B>(
        &mut self,
        head: &mut Parts,
        mut body: Pin<&mut B>,
        turn: &mut Turn<'_>,
        drain: &mut Watch,
    ) -> Result<(), ServeError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let draining = poll_fn(|cx| Poll::Ready(drain.has_begun(cx))).await;
        let is_unread = turn.feed.as_ref().is_some_and(Feed::is_abandoned) && !self.pass_over_body();
        turn.terms.keep &= !draining && self.fault.is_none() && !self.is_cut && !is_unread;
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let framing = framing::begin(&mut self.wire.output, head, length, &mut turn.terms);
        let mut left = Left { framing, broken: None };
        self.keep_spare(&mut head.headers);
        let (sent, at_once) = driven(|cx| self.poll_answer(cx, body.as_mut(), &mut left, turn)).await;
        sent?;
        turn.exchange.completed();
        if at_once {
            turn.exchange.ended_at_once();
        }
        Ok(())
    }

    fn keep_spare(&mut self, fields: &mut HeaderMap) {
        if fields.capacity() <= SPARE {
            fields.clear();
            mem::swap(&mut self.spare, fields);
        }
    }

    fn poll_answer<B>(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut B>,
        left: &mut Left,
        turn: &mut Turn<'_>,
    ) -> Poll<Result<(), ServeError>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        loop {
            let mut waits = false;
            while !left.is_done() && !waits && self.wire.output.has_room() {
                waits = left.poll_piece(cx, body.as_mut(), &mut self.wire.output, &mut turn.exchange).is_pending();
            }
            let sent = self.wire.poll_send(cx).map_err(|error| {
                turn.exchange.not_taken(&error);
                client(error)
            })?;
            if sent.is_pending() || waits {
                // The body waits, perhaps for the request's, or the client's window does.
                ready!(self.poll_feed(cx, turn))?;
            } else if let Some(error) = left.broken.take() {
                turn.exchange.broke_off();
                if left.framing == Framing::Rest {
                    self.wire.abort();
                }
                return Poll::Ready(Err(ServeError::new(Side::Upstream, error)));
            } else if left.is_done() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Turn<'_> {
    fn break_off(&self, task: &Waker, why: &'static str) {
        if let Some(feed) = &self.feed {
            feed.break_off(task, why);
        }
    }
}

/// What is left to be sent of an answer.
struct Left {
    framing: Framing,
    /// The body failed: what came before is still sent, and then the answer is cut.
    broken: Option<BoxError>,
}

impl Left {
    fn is_done(&self) -> bool {
        self.framing == Framing::Done || self.broken.is_some()
    }

    /// Takes the next piece of the body. There is room for it.
    fn poll_piece<B>(
        &mut self,
        cx: &mut Context<'_>,
        body: Pin<&mut B>,
        output: &mut Output,
        exchange: &mut Exchange<'_>,
    ) -> Poll<()>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let frame = if body.is_end_stream() { None } else { ready!(body.poll_frame(cx)) };
        let sent = match frame {
            None => self.framing.end(output, None),
            Some(Ok(frame)) => {
                exchange.handed_over(frame.data_ref().map_or(0, Bytes::len));
                self.framing.send(output, frame)
            }
            Some(Err(error)) => {
                self.broken = Some(error.into());
                return Poll::Ready(());
            }
        };
        if sent.is_err() {
            self.broken = Some("the answer's body is not as long as its head says".into());
        }
        Poll::Ready(())
    }
}

fn handing(length: Option<u64>) -> (Option<Feed>, RequestBody) {
    let (feed, handed) = pair(length);
    (Some(feed), RequestBody::http1(handed))
}
