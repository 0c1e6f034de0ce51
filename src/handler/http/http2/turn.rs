//! One HTTP/2 request's turn: from its head, by way of the service, to the end of its answer.
//!
//! Owns the stream and its place among those in work. Made by `http2` for each request, and run in a task of its own;
//! `http1/turn` does the same for HTTP/1.1.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use hyper::body::{Body, Frame};
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::time::Instant;

use super::super::answer::{Link, admitted, has_no_body};
use super::super::body::RequestBody;
use super::super::conduct::Conduct;
use super::super::date;
use super::super::deadline::Deadline;
use super::super::exchange::Exchange;
use super::super::fault::Fault;
use super::super::pace::Pace;
use super::super::{BoxError, HttpService, Interim, Reply};
use super::request::check;

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
        let Some((asked, mut exchange)) = self.ask(request).await else { return };
        let sent = match asked {
            Ok(response) => self.send(response, is_head, &mut exchange).await,
            Err(fault) => {
                self.send(fault.response(Version::HTTP_2), is_head, &mut exchange).await;
                self.work.stage = Stage::Refused;
                return;
            }
        };
        if sent != Sent::GivenUp {
            self.work.stage = Stage::Done;
        }
    }

    /// What is answered; nothing where the client gives the request up meanwhile.
    async fn ask(&mut self, request: Request<RecvStream>) -> Option<(Result<Response<S::Body>, Fault>, Exchange)> {
        let Self { link, work, respond } = self;
        let interim = Interim::new(true);
        let mut asking = pin!(async {
            work.take_place().await;
            serve(link, request, &interim).await
        });
        poll_fn(|cx| {
            let asked = asking.as_mut().poll(cx);
            for mut head in interim.take() {
                strip(head.headers_mut());
                let _ = respond.send_informational(head); // it fails only where the client has reset the stream
            }
            match asked {
                Poll::Ready(asked) => Poll::Ready(Some(asked)),
                Poll::Pending => respond.poll_reset(cx).map(|_| None),
            }
        })
        .await
    }

    /// Sends an answer, to its last byte.
    async fn send<B>(&mut self, response: Response<B>, is_head: bool, exchange: &mut Exchange) -> Sent
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = response.into_parts();
        let mut body = pin!(body);
        let has_none = is_head || has_no_body(head.status);
        let ends = has_none || body.is_end_stream();
        complete(&mut head, if ends { None } else { body.size_hint().exact() });
        let Ok(stream) = self.respond.send_response(Response::from_parts(head, ()), ends) else {
            return Sent::GivenUp; // the client reset the stream
        };
        if ends {
            exchange.completed();
            return Sent::Whole;
        }
        let stall = Deadline::default();
        let context = &self.link.gate.context;
        let (limit, pace) = (context.timeouts.body, Pace::new(&context.limits));
        let mut pipe = Pipe { stream, piece: Bytes::new(), is_last: false, limit, pace, stall, since: None };
        poll_fn(|cx| pipe.poll(cx, body.as_mut(), exchange)).await
    }
}

/// Has the service answer a request, if it may be served.
async fn serve<S: HttpService>(
    link: &Link<S>,
    mut request: Request<RecvStream>,
    interim: &Interim,
) -> (Result<Response<S::Body>, Fault>, Exchange) {
    let gate = &link.gate;
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
    let request = Request::from_parts(head, body);
    let Reply { response, told } = link.service.clone().call(request, &gate.info, interim).await;
    if exchange.took_too_much() {
        exchange.refuse(&Fault::BODY_TOO_LARGE);
        return (Err(Fault::BODY_TOO_LARGE), exchange);
    }
    exchange.answered(response.status(), told);
    (Ok(response), exchange)
}

/// Fields of an HTTP/1.1 connection (RFC 9113, section 8.2.2), besides those that `Connection` names.
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Makes an answer's head one for HTTP/2. `length` is that of the body that follows, if it is known.
fn complete(head: &mut Parts, length: Option<u64>) {
    let fields = &mut head.headers;
    if fields.keys().any(|name| OF_CONNECTIONS.contains(name)) {
        strip(fields);
    }
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        fields.remove(CONTENT_LENGTH); // RFC 9110, section 8.6
    }
    if let Some(length) = length {
        fields.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    fields.entry(DATE).or_insert_with(date::now);
}

/// Removes what belongs to a connection.
fn strip(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    named.iter().chain(&OF_CONNECTIONS).for_each(|name| drop(fields.remove(name)));
}

/// How the sending of an answer ended.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// All of it was handed over.
    Whole,
    /// The service broke it off.
    BrokenOff,
    /// The client did.
    GivenUp,
}

/// An answer's body on its way. No more is handed to h2 than the client's windows let pass, so what a client does not take
/// waits here, where that is noticed.
struct Pipe {
    stream: SendStream<Bytes>,
    /// What is left of the piece that the body gave last.
    piece: Bytes,
    /// Nothing comes behind it.
    is_last: bool,
    /// How long a piece may wait for the client, and how fast pieces must go.
    limit: Duration,
    pace: Pace,
    stall: Deadline,
    /// Since when this one does.
    since: Option<Instant>,
}

impl Pipe {
    fn poll<B>(&mut self, cx: &mut Context<'_>, mut body: Pin<&mut B>, exchange: &mut Exchange) -> Poll<Sent>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        loop {
            while !self.piece.is_empty() {
                let Some(room) = ready!(self.poll_room(cx, exchange)) else { return Poll::Ready(Sent::GivenUp) };
                let data = self.piece.split_to(room.min(self.piece.len()));
                exchange.handed_over(data.len());
                self.pace.add(data.len());
                let ends = self.is_last && self.piece.is_empty();
                let sent = self.stream.send_data(data, ends);
                if ends || sent.is_err() {
                    return Poll::Ready(over(sent, exchange));
                }
            }
            let frame = if body.is_end_stream() { None } else { ready!(self.poll_frame(cx, body.as_mut())) };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(over(self.stream.send_data(Bytes::new(), true), exchange)),
                Some(Ok(Ok(data))) => (self.piece, self.is_last) = (data, body.is_end_stream()),
                Some(Ok(Err(trailers))) => {
                    let trailers = trailers.into_trailers().unwrap_or_default();
                    return Poll::Ready(over(self.stream.send_trailers(trailers), exchange));
                }
                Some(Err(Broken::Service)) => {
                    exchange.broke_off();
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Sent::BrokenOff);
                }
                Some(Err(Broken::Client)) => return Poll::Ready(Sent::GivenUp),
            }
        }
    }

    /// The body's next piece; the end, too, where the client resets the stream meanwhile.
    fn poll_frame<B>(&mut self, cx: &mut Context<'_>, body: Pin<&mut B>) -> Poll<Option<Result<Frame<Bytes>, Broken>>>
    where
        B: Body<Data = Bytes>,
    {
        match body.poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(|_| Broken::Service))),
            Poll::Pending => {
                self.pace.rest(); // nothing waits for the client
                self.stream.poll_reset(cx).map(|_| Some(Err(Broken::Client)))
            }
        }
    }

    /// How many bytes the client takes now. Nothing once the stream is reset, or the client has taken too little for too long:
    /// then its stream is reset when it is dropped.
    fn poll_room(&mut self, cx: &mut Context<'_>, exchange: &mut Exchange) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.piece.len());
        let mut room = self.stream.capacity();
        while room == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(more))) => room = more,
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {
                    let since = *self.since.get_or_insert_with(Instant::now);
                    ready!(self.pace.poll(cx, &mut self.stall, since, self.limit));
                    exchange.not_taken(&io::ErrorKind::TimedOut.into());
                    return Poll::Ready(None);
                }
            }
        }
        self.since = None;
        Poll::Ready(Some(room))
    }
}

/// Who broke an answer off.
enum Broken {
    Service,
    Client,
}

/// The last of an answer was handed to h2, which fails only where the client has reset the stream.
fn over(sent: Result<(), h2::Error>, exchange: &mut Exchange) -> Sent {
    if sent.is_err() {
        return Sent::GivenUp;
    }
    exchange.completed();
    Sent::Whole
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_head_has_nothing_of_a_connection_and_says_its_length_and_date() {
        let response = Response::builder()
            .header("connection", "x-own, keep-alive")
            .header("keep-alive", "timeout=5")
            .header("x-own", "1")
            .header("x-other", "2")
            .header("transfer-encoding", "chunked");
        let (mut head, ()) = response.body(()).unwrap().into_parts();
        complete(&mut head, Some(7));
        let names: std::collections::BTreeSet<_> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["content-length", "date", "x-other"]);
        assert_eq!(head.headers[CONTENT_LENGTH], "7");
    }

    #[test]
    fn an_answer_without_content_says_no_length() {
        let (mut head, ()) = Response::builder().status(204).header(CONTENT_LENGTH, "7").body(()).unwrap().into_parts();
        complete(&mut head, None);
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
    }
}
