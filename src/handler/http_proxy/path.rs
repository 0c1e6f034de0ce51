//! The normal form of a request's path: what routes decide on is what the upstream is sent.
//!
//! RFC 3986, section 6.2.2: unreserved characters stand as they are, other escapes in upper case, dot segments are
//! removed. What upstreams are known to read in different ways is refused, or told by [`lenient`] so that `routes` can
//! refuse it where it would matter.

use std::borrow::Cow;

/// A path's normal form, or why it has none. Idempotent; the result never leads above the root.
///
/// A path that is normal already, as nearly all are, is not copied.
pub(super) fn normal(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    without_dot_segments(&unescaped(path)?).map(Cow::Owned)
}

/// The path as the most lenient upstream would read it: escaped slashes and backslashes are slashes, path parameters
/// (`;…`) are dropped, empty segments are no segments. `None` where that changes nothing.
///
/// `normal` must be a normal form.
pub(super) fn lenient(normal: &str) -> Option<String> {
    let bytes = normal.as_bytes();
    if memchr::memchr2(b';', b'%', bytes).is_none() && memchr::memmem::find(bytes, b"//").is_none() {
        return None;
    }
    let slashes = normal.replace("%2F", "/").replace("%5C", "/");
    let mut read = String::with_capacity(slashes.len());
    for segment in slashes.split('/').map(without_parameters).filter(|segment| !segment.is_empty()) {
        read.push('/');
        read.push_str(segment);
    }
    if read.is_empty() || slashes.ends_with('/') {
        read.push('/');
    }
    (read != normal).then_some(read)
}

/// Whether nothing of the path needs a closer look: no escapes, no backslashes, no segment that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    memchr::memchr2(b'%', b'\\', path).is_none() && memchr::memmem::find(path, b"/.").is_none()
}

fn without_parameters(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// Takes escapes of unreserved characters back and writes the others in upper case (RFC 3986, section 6.2.2.1 and .2).
fn unescaped(path: &str) -> Result<String, &'static str> {
    let mut pieces = path.split('%');
    let mut plain = String::with_capacity(path.len());
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let byte = piece.get(..2).and_then(escaped_byte).ok_or("a percent sign is not followed by two hex digits")?;
        match byte {
            0 => return Err("the path holds an escaped NUL"),
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => plain.push(char::from(byte)),
            _ => {
                plain.push('%');
                plain.extend(piece[..2].chars().map(|digit| digit.to_ascii_uppercase()));
            }
        }
        plain.push_str(&piece[2..]);
    }
    if plain.contains('\\') {
        return Err("the path holds a backslash");
    }
    Ok(plain)
}

fn escaped_byte(digits: &str) -> Option<u8> {
    // `from_str_radix` would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// RFC 3986, section 5.2.4.
fn without_dot_segments(path: &str) -> Result<String, &'static str> {
    let mut kept = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => kept.truncate(kept.rfind('/').unwrap_or(0)),
            _ if hides_dot_segment(segment) => return Err("the path hides a dot segment"),
            _ => {
                kept.push('/');
                kept.push_str(segment);
                continue;
            }
        }
        if is_last {
            kept.push('/'); // "/a/.." is "/", "/a/b/." is "/a/b/"
        }
    }
    if kept.is_empty() {
        kept.push('/');
    }
    Ok(kept)
}

/// Whether a lenient reader would find a dot segment in it: `..;x`, `..%2F`, `x%5C..`.
fn hides_dot_segment(segment: &str) -> bool {
    segment
        .split("%2F")
        .flat_map(|part| part.split("%5C"))
        .map(without_parameters)
        .any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_normal_path_is_not_copied() {
        for path in ["/", "/a/b.c/", "/a//b", "/a;v=1/b"] {
            assert!(matches!(normal(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn escapes_and_dot_segments_take_their_normal_form() {
        for (path, expected) in [
            ("/%7Euser/%41", "/~user/A"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../etc", "/etc"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a//../b", "/a/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/..a/...", "/..a/..."),
        ] {
            assert_eq!(normal(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn what_upstreams_read_in_different_ways_is_refused() {
        for path in [
            "a",
            "",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%é",
            "/%00",
            "/a\\b",
            "/..;/x",
            "/%2e%2e;a=b/x",
            "/..%2fx",
            "/x%5c..",
            "/.%2f",
        ] {
            assert!(normal(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_lenient_reader_sees_through_parameters_escaped_slashes_and_empty_segments() {
        for (path, expected) in [
            ("/a/b", None),
            ("/private;x/y", Some("/private/y")),
            ("//private/y", Some("/private/y")),
            ("/private%2Fy", Some("/private/y")),
            ("/private%5Cy/", Some("/private/y/")),
            ("/a%20b", None),
            ("//", Some("/")),
        ] {
            assert_eq!(lenient(path).as_deref(), expected, "{path}");
        }
    }

    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", ".", "..", "a", "Z", ";", "%2e", "%2E", "%2f", "%5c", "%41", "%c3", "~", "%", "//", "é", "%25",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own(path in paths()) {
            if let Ok(once) = normal(&path) {
                prop_assert_eq!(normal(&once).unwrap(), once.as_ref());
            }
        }

        #[test]
        fn the_normal_form_never_leads_above_the_root(path in paths()) {
            if let Ok(normal) = normal(&path) {
                prop_assert!(normal.starts_with('/'));
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
                let lenient = lenient(&normal).unwrap_or_default();
                prop_assert!(lenient.split('/').all(|segment| segment != "." && segment != ".."), "{}", lenient);
            }
        }

        #[test]
        fn any_text_is_taken_without_panic(path in ".*") {
            let _ = normal(&path);
        }
    }
}
