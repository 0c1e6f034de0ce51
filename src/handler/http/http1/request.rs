//! From a head that was accepted to a request; its fields' values are parts of the head, not copies.
//!
//! Pure. Used by `turn`, for heads and for trailers.

use std::mem;

use bytes::{Buf, Bytes};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri, Version};

use super::super::fault::Fault;
use super::super::field::{Lines, split};
use super::super::head::{Accepted, FieldSpan};

/// Gives a request, of which only the body is there, its `head`, whose `fields` stand where these say. `space` is an empty
/// map, whose memory it gets. In place, since what is moved is copied.
///
/// The types are stricter than the grammar here and there; what they do not take is refused.
pub(in crate::handler::http) fn begin<B>(
    request: &mut Request<B>,
    mut head: Bytes,
    accepted: &Accepted,
    fields: &[FieldSpan],
    space: &mut HeaderMap,
) -> Result<(), Fault> {
    mem::swap(request.headers_mut(), space);
    *request.method_mut() = Method::from_bytes(accepted.method.of(&head)).map_err(|_| METHOD)?;
    *request.version_mut() = if accepted.is_11 { Version::HTTP_11 } else { Version::HTTP_10 };
    let map = request.headers_mut();
    map.reserve(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.of(&head)).map_err(|_| FIELD)?;
        let value = HeaderValue::from_maybe_shared(head.slice(field.value.range())).map_err(|_| FIELD)?;
        map.append(name, value);
    }
    // Last, so that it takes the head along and none is left to be dropped.
    let target = accepted.target.range();
    head.truncate(target.end);
    head.advance(target.start);
    *request.uri_mut() = Uri::from_maybe_shared(head).map_err(|_| TARGET)?;
    Ok(())
}

/// Makes a map of a whole trailer section; `None` where it has no field.
pub(super) fn trailers(section: &Bytes) -> Result<Option<HeaderMap>, Fault> {
    let mut lines = Lines::within(section.len() + 1); // `scan` has seen that it is not too large
    let mut fields = HeaderMap::new();
    while let Some((_, line)) = lines.next(section)?.filter(|(_, line)| !line.is_empty()) {
        let field = split(line)?;
        let name = HeaderName::from_bytes(field.name).map_err(|_| FIELD)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value)).map_err(|_| FIELD)?;
        fields.append(name, value);
    }
    Ok(Some(fields).filter(|fields| !fields.is_empty()))
}

const METHOD: Fault = Fault::malformed("the method is not one that can be read");
const TARGET: Fault = Fault::malformed("the request target is not a URI");
const FIELD: Fault = Fault::malformed("a field is not one that can be read");
