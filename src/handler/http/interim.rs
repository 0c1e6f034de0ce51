//! What the engine and a service tell each other of a request before its answer: when it came, one way; interim responses (RFC
//! 9110, section 15.2), such as 103 (Early Hints), the other.
//!
//! Owns the place where they lie until the engine, which made it and polls the service, writes them. Used by `http1` and
//! `http2`; a service leaves them there while it makes its answer.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::{Response, StatusCode};
use tokio::time::Instant;

/// The most that wait to be written at a time; more are left out.
const MOST: usize = 16;

/// Takes a service's interim responses to one request, and says when that came.
#[derive(Debug)]
pub struct Interim {
    begun: Instant,
    /// The client understands them.
    is_welcome: bool,
    /// There are some; so that nobody takes the lock for nothing. For `Send` alone, as the lock is: one task uses both.
    any: AtomicBool,
    heads: Mutex<Vec<Response<()>>>,
}

impl Interim {
    /// For a client that understands them, or that does not: no client of HTTP/1.0 does (RFC 9110, section 15.2).
    pub(super) fn new(is_welcome: bool, begun: Instant) -> Self {
        Self { begun, is_welcome, any: AtomicBool::new(false), heads: Mutex::default() }
    }

    /// When the service was asked: its request's head had just come.
    #[must_use]
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Has `head` sent before the answer, and at once.
    ///
    /// 100 is the engine's to say, 101 is an answer, and what is not interim has no place here: those are left out.
    pub fn send(&self, mut head: Response<()>) {
        let is_ours = matches!(head.status(), StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS);
        if !self.is_welcome || is_ours || !head.status().is_informational() {
            return;
        }
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers_mut().remove(name); // RFC 9110, section 8.6; RFC 9112, section 6.1
        }
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() < MOST {
            heads.push(head);
            self.any.store(true, Relaxed);
        }
    }

    /// Whether any has come since the last time.
    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// What has come since the last time, in order.
    pub(super) fn take(&self) -> Vec<Response<()>> {
        self.any.store(false, Relaxed);
        mem::take(&mut self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn head(status: u16) -> Response<()> {
        Response::builder().status(status).header(CONTENT_LENGTH, "5").header("link", "x").body(()).unwrap()
    }

    #[test]
    fn only_what_is_interim_and_not_the_engines_to_say_is_taken_in_order_and_without_framing() {
        let interim = Interim::new(true, Instant::now());
        [100, 101, 102, 103, 200].map(head).into_iter().for_each(|head| interim.send(head));
        let taken = interim.take();
        assert_eq!(taken.iter().map(|head| head.status().as_u16()).collect::<Vec<_>>(), [102, 103]);
        assert!(taken.iter().all(|head| head.headers().len() == 1 && head.headers().contains_key("link")));
        assert!(interim.take().is_empty());
    }

    #[test]
    fn there_are_never_more_than_can_wait_and_none_for_a_client_that_knows_none() {
        let (interim, old) = (Interim::new(true, Instant::now()), Interim::new(false, Instant::now()));
        for _ in 0..100 {
            interim.send(head(103));
            old.send(head(103));
        }
        assert_eq!((interim.take().len(), old.take().len()), (MOST, 0));
    }
}
