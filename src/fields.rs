//! Looking up, and taking out, the fields of a message by their names.
//!
//! A head mostly has a handful of fields, of which a look at each name costs less than a hash, and most of those that are looked
//! for are not there: `first` finds that out in place. Used by the HTTP engine, by `handler/http_proxy` and by `upstream`.

use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};

/// The value of a field's first line.
#[inline(never)]
pub(crate) fn first<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    for (known, value) in fields {
        if known == name {
            return Some(value);
        }
    }
    None
}

/// The values of a field's lines, in order.
pub(crate) fn lines<'a>(fields: &'a HeaderMap, name: &'a HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
    fields.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value)
}

/// Whether a field has more than one line.
pub(crate) fn is_repeated(fields: &HeaderMap, name: &HeaderName) -> bool {
    // Mostly no field is: then there are as many names as lines.
    fields.len() > fields.keys_len() && lines(fields, name).nth(1).is_some()
}

/// A value that is digits and nothing else, not even a sign, as that of `Content-Length` is (RFC 9110, section 8.6). At most 19
/// of them, so that no reader's 64-bit number overflows.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    let is_number = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// How long a message says its body is.
pub(crate) fn declared_length(fields: &HeaderMap) -> Option<u64> {
    number(first(fields, &CONTENT_LENGTH)?.as_bytes())
}

/// Fields that must not come late, as trailers: they frame or route the message, say who sends it, or how to read it
/// (RFC 9110, section 6.5.1). A reader that merged them into the head would read another message.
const NEVER_LATE: [&[u8]; 24] = [
    b"authorization",
    b"cache-control",
    b"client-cert",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"keep-alive",
    b"max-forwards",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-forwarded-for",
    b"x-forwarded-proto",
];

/// Whether a field of this name, in any case, may be a trailer.
pub(crate) fn may_come_late(name: &[u8]) -> bool {
    !NEVER_LATE.iter().any(|never| name.eq_ignore_ascii_case(never))
}

/// Takes out of trailers what must not come late.
pub(crate) fn leave_what_may_come_late(trailers: &mut HeaderMap) {
    remove(trailers, |name| !may_come_late(name.as_str().as_bytes()));
}

/// Takes out every field whose name is one of `those`.
pub(crate) fn remove(fields: &mut HeaderMap, those: impl Fn(&HeaderName) -> bool) {
    // Each round removes at least one field, and heads and trailers are bounded; most have none or one to remove.
    while let Some(name) = fields.keys().find(|name| those(name)).cloned() {
        fields.remove(name);
    }
}

/// Whether a comma-separated field has `token` in any of its lines, in any case.
pub(crate) fn has_token(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    #[inline(never)]
    fn in_a_line(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
        lines(fields, name).any(|line| says(line.as_bytes(), token.as_bytes()))
    }
    first(fields, name).is_some() && in_a_line(fields, name, token)
}

/// Whether a comma-separated value has `token`, in any case.
pub(crate) fn says(value: &[u8], token: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// The elements of a comma-separated value, without the space around them.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use hyper::header::{CONNECTION, HOST, UPGRADE};

    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_in_each_of_its_lines() {
        let lines_of = [(CONNECTION, "close"), (HOST, "a"), (CONNECTION, "x , Upgrade")];
        let mut fields = HeaderMap::new();
        for (name, value) in lines_of {
            fields.append(name, HeaderValue::from_static(value));
        }
        assert!(is_repeated(&fields, &CONNECTION) && !is_repeated(&fields, &HOST));
        assert_eq!(lines(&fields, &CONNECTION).collect::<Vec<_>>(), ["close", "x , Upgrade"]);
        assert_eq!(first(&fields, &CONNECTION).map(HeaderValue::as_bytes), Some(&b"close"[..]));
        assert!(first(&fields, &UPGRADE).is_none() && first(&fields, &HOST).is_some());
        assert!(has_token(&fields, &CONNECTION, "upgrade") && !has_token(&fields, &CONNECTION, "up"));
    }

    #[test]
    fn a_length_is_digits_alone_and_no_more_than_any_reader_holds() {
        for (text, expected) in
            [("0", Some(0)), ("007", Some(7)), ("9999999999999999999", Some(9_999_999_999_999_999_999))]
        {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
        for text in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "10000000000000000000"] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }
}
