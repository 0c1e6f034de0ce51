//! The normal form of a request's path: what routes decide on is what the upstream is sent.
//!
//! RFC 3986, section 6.2.2: unreserved characters stand as they are, characters that no path may hold are escaped, escapes
//! are in upper case, dot segments are removed. What upstreams are known to read in different ways is refused, or told by
//! [`lenient`] so that `routes` can refuse it where it would matter.

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
    without_dot_segments(&escaped(path)?).map(Cow::Owned)
}

/// How many readers there may be behind one another, each of which takes escapes back: an upstream, what it passes requests
/// on to, and a framework there.
const READERS: usize = 3;

/// The path as lenient upstreams would read it: escapes are taken back, escaped slashes and backslashes are slashes, path
/// parameters (`;…`) are dropped, empty segments are no segments. Nothing where that changes nothing.
///
/// There are two readings, since an escaped slash within a parameter is dropped with it by whoever looks for parameters
/// first, and as many for each reader that takes escapes back again. A byte above 127 is read as the character of that
/// number: the text is for comparison alone.
///
/// `normal` must be a normal form.
pub(super) fn lenient(normal: &str) -> Vec<String> {
    let bytes = normal.as_bytes();
    if memchr::memchr2(b';', b'%', bytes).is_none() && memchr::memmem::find(bytes, b"//").is_none() {
        return Vec::new();
    }
    let dropped: Vec<&str> = normal.split('/').map(without_parameters).collect();
    let mut readings = Vec::new();
    for mut text in [normal.to_owned(), dropped.join("/")] {
        for _ in 0..READERS {
            readings.extend(readings_of(&text));
            text = plain(&text);
            if !text.contains('%') {
                break;
            }
        }
    }
    readings.sort_unstable();
    readings.dedup();
    readings
}

fn readings_of(text: &str) -> [String; 2] {
    let segments = || text.split('/').map(plain);
    let slashes_first = joined(segments().flat_map(|segment| split_at_slashes(&segment)), text);
    let parameters_first = joined(segments().flat_map(|segment| split_at_slashes(without_parameters(&segment))), text);
    [slashes_first, parameters_first]
}

/// A path with its escapes taken back, as [`lenient`] does, for comparison with what it returns. What is no escape stays.
pub(super) fn plain(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let escape = piece.split_at_checked(2).and_then(|(digits, rest)| Some((escaped_byte(digits)?, rest)));
        let (byte, rest) = escape.unwrap_or((b'%', piece));
        plain.push(char::from(byte));
        plain.push_str(rest);
    }
    plain
}

/// Whether a slash, backslash or NUL is encoded more than once, so that the upstream does not see it and a reader behind it does.
pub(super) fn hides_slash(normal: &str) -> bool {
    let slashes = |text: &str| text.matches(['/', '\\', '\0']).count();
    // Nearly no path has an escape at all, and a look at each byte is soon done.
    if !normal.bytes().any(|b| b == b'%') || !normal.contains("%25") {
        return false;
    }
    let mut read = plain(normal);
    (1..READERS).any(|_| {
        let again = plain(&read);
        let hides = slashes(&again) > slashes(&read);
        read = again;
        hides
    })
}

/// Whether a reader could take the path for another one: it has parameters, empty segments, or escapes of characters that
/// can stand as they are, slashes and backslashes among them.
pub(super) fn is_ambiguous(normal: &str) -> bool {
    let stands = |piece: &str| {
        piece.get(..2).and_then(escaped_byte).is_some_and(|b| STANDS[usize::from(b)] || matches!(b, b'%' | b'\\'))
    };
    normal.contains("//") || normal.contains(';') || normal.split('%').skip(1).any(stands)
}

fn split_at_slashes(plain: &str) -> Vec<String> {
    plain.split(['/', '\\']).map(|part| without_parameters(part).to_owned()).collect()
}

fn joined(segments: impl Iterator<Item = String>, normal: &str) -> String {
    let mut read = String::with_capacity(normal.len());
    for segment in segments.filter(|segment| !segment.is_empty()) {
        read.push('/');
        read.push_str(&segment);
    }
    if read.is_empty() {
        read.push('/');
    }
    read
}

/// Whether nothing of the path needs a closer look: nothing is escaped or should be, no segment begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|b| {
        let begins_with_dot = *b == b'.' && before == b'/';
        before = *b;
        STANDS[usize::from(*b)] && !begins_with_dot
    })
}

/// What may stand in a path as it is: `pchar` and the slash (RFC 3986, section 3.3).
static STANDS: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
            || matches!(c, b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@')
            || matches!(c, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        b += 1;
    }
    table
};

fn without_parameters(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// Takes escapes of unreserved characters back, writes the others in upper case, and escapes what no path may hold
/// (RFC 3986, sections 6.2.2.1 and .2; section 2.1).
fn escaped(path: &str) -> Result<String, &'static str> {
    let mut pieces = path.split('%');
    let mut escaped = String::with_capacity(path.len());
    escape_into(&mut escaped, pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).unwrap_or_default();
        match escaped_byte(digits).ok_or("a percent sign is not followed by two hex digits")? {
            0 => return Err("the path holds an escaped NUL"),
            b @ (b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z') => escaped.push(char::from(b)),
            b => push_escape(&mut escaped, b),
        }
        escape_into(&mut escaped, rest);
    }
    if path.contains(['\\', '\0']) {
        return Err("the path holds a backslash or NUL");
    }
    Ok(escaped)
}

fn escape_into(escaped: &mut String, text: &str) {
    for b in text.bytes() {
        if STANDS[usize::from(b)] {
            escaped.push(char::from(b));
        } else {
            push_escape(escaped, b);
        }
    }
}

fn push_escape(escaped: &mut String, b: u8) {
    escaped.push('%');
    escaped.extend([b >> 4, b & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
}

fn escaped_byte(digits: &str) -> Option<u8> {
    // `from_str_radix` would take a sign.
    let is_escape = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_escape.then(|| u8::from_str_radix(digits, 16).ok())?
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

/// Whether a lenient reader would find a dot segment in it: `..;x`, `..%3B`, `..%2F`, `x%5C..`, `%252E%252E`.
fn hides_dot_segment(segment: &str) -> bool {
    let readers = if segment.contains('%') { READERS } else { 1 };
    let mut read = segment.to_owned();
    (0..readers).any(|_| {
        read = plain(&read);
        read.split(['/', '\\']).map(without_parameters).any(|part| matches!(part, "." | ".."))
    })
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
            ("/a|b\"{^}", "/a%7Cb%22%7B%5E%7D"),
            ("/é", "/%C3%A9"),
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
            "/\0",
            "/a\\b",
            "/..;/x",
            "/..%3b/x",
            "/%2e%2e;a=b/x",
            "/..%2fx",
            "/x%5c..",
            "/.%2f",
            "/a/%252e%252E/b",
            "/a/%25252e./b",
            "/a/..%252f..%252fb",
            "/a/x%255c..",
            "/a/%25%32e%252e/",
        ] {
            assert!(normal(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_lenient_reader_sees_through_escapes_parameters_and_empty_segments() {
        for (path, expected) in [
            ("/a/b", vec![]),
            ("/private;x/y", vec!["/private/y"]),
            ("/private%3Bx/y", vec!["/private/y"]),
            ("//private/y", vec!["/private/y"]),
            ("/private%2Fy", vec!["/private/y"]),
            ("/private%5Cy/", vec!["/private/y"]),
            ("/a;x%2Fb/c", vec!["/a/b/c", "/a/c"]),
            ("/a%3Ab%20c", vec!["/a:b c"]),
            ("//", vec!["/"]),
            ("/private%252Fx", vec!["/private%2Fx", "/private/x"]),
            ("/a;b/%2561", vec!["/a/%61", "/a/a"]),
            ("/50%25", vec!["/50%"]),
        ] {
            assert_eq!(lenient(path), expected, "{path}");
        }
    }

    #[test]
    fn a_slash_that_only_a_later_reader_sees_is_hidden() {
        for (path, expected) in [
            ("/a%252Fb", true),
            ("/a%252fb", true),
            ("/a%25252Fb", true),
            ("/a%255Cb", true),
            ("/a%2500b", true),
            ("/a%25%32%46b", true),
            ("/a%2Fb", false),
            ("/100%25/b%2520c", false),
            ("/a%252", false),
            ("/a%25zz", false),
        ] {
            assert_eq!(hides_slash(&normal(path).unwrap()), expected, "{path}");
        }
    }

    #[test]
    fn a_path_is_ambiguous_where_it_could_be_written_in_another_way() {
        for (path, expected) in [
            ("/a:b/%20%C3%A9/", false),
            ("/a%3Ab", true),
            ("/a%2Fb", true),
            ("/a%5Cb", true),
            ("/a%252Fb", true),
            ("/a;b", true),
            ("/a//b", true),
        ] {
            assert_eq!(is_ambiguous(path), expected, "{path}");
        }
    }

    fn paths() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", ".", "..", "a", "Z", ";", "%2e", "%2E", "%2f", "%5c", "%41", "%c3", "~", "%", "//", "é", "%25", "%3b",
            "|", "25", "2e", "2f",
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
                for lenient in lenient(&normal) {
                    prop_assert!(lenient.split('/').all(|segment| segment != "." && segment != ".."), "{}", lenient);
                }
            }
        }

        #[test]
        fn any_text_is_taken_without_panic(path in ".*") {
            let _ = normal(&path);
        }
    }
}
