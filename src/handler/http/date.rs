//! The date that an answer says it was made on (RFC 9110, section 6.6.1), written once a second.
//!
//! Owns each worker's text of it. Asked by `http1/framing` and `http2/turn` where a service says no date.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;
use hyper::header::HeaderValue;

const SECOND: Duration = Duration::from_secs(1);

/// The date as this worker wrote it last.
struct Written {
    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
    text: HeaderValue,
    until: SystemTime,
}

thread_local! {
    static WRITTEN: RefCell<Written> =
        const { RefCell::new(Written { text: HeaderValue::from_static(""), until: SystemTime::UNIX_EPOCH }) };
}

/// The date; a cheap clone.
pub(super) fn now() -> HeaderValue {
    let now = SystemTime::now();
    WRITTEN.with_borrow_mut(|written| {
        let is_fresh = now < written.until && written.until.duration_since(now).is_ok_and(|left| left <= SECOND);
        if !is_fresh && let Ok(text) = HeaderValue::try_from(HttpDate::from(now).to_string()) {
            let into = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
            *written = Written { text, until: now + (SECOND - Duration::from_nanos(into.into())) };
        }
        written.text.clone()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_in_the_form_that_everyone_reads() {
        for _ in 0..2 {
            let date = httpdate::parse_http_date(now().to_str().unwrap()).unwrap();
            assert!(SystemTime::now().duration_since(date).unwrap() < Duration::from_secs(10));
        }
    }
}
