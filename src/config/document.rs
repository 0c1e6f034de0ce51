//! A TOML text with the place of every word.
//!
//! Owns the spanned tree of one text and the way from a byte to its line and column. Made by `config/source.rs`;
//! walked by `config/shape.rs`.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, shown};

/// A key's or value's place in the text, in bytes.
pub(super) type Span = Range<usize>;

/// A text that is TOML.
pub(super) struct Document<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    /// The byte at which each line starts.
    lines: Vec<usize>,
    /// The top table.
    pub(super) root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses a text.
    ///
    /// # Errors
    /// The first fault in its syntax. Those behind it are often only its echo, so they are not reported.
    pub(super) fn parse(file: &'a Arc<str>, text: &'a str) -> Result<Self, Problem> {
        let lines = line_starts(text);
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { file, text, lines, root }),
            Err(error) => {
                let place = place(file, text, &lines, error.span().map_or(0, |span| span.start));
                let line = text.lines().nth(place.line - 1).filter(|_| error.message().starts_with("invalid"));
                let remedy = line.and_then(quotes_missing);
                let message = format!("not TOML: {}", error.message());
                Err(Problem { place: Some(place), item: String::new(), message, remedy })
            }
        }
    }

    /// The place where a span begins.
    pub(super) fn place(&self, span: &Span) -> Place {
        place(self.file, self.text, &self.lines, span.start)
    }

    /// What is written at a span.
    pub(super) fn text(&self, span: &Span) -> &'a str {
        self.text.get(span.clone()).unwrap_or("")
    }

    /// The place of a path's value, or of the nearest table or list that the path runs through. A table's place is its
    /// header.
    pub(super) fn locate<S: AsRef<str>>(&self, path: &[S]) -> Place {
        let top = self.place(&(0..0));
        let Some((first, rest)) = path.split_first() else {
            return top;
        };
        let Some(mut value) = self.root.get_ref().get(first.as_ref()) else {
            return top;
        };
        for key in rest.iter().map(AsRef::as_ref) {
            let next = match value.get_ref() {
                DeValue::Table(table) => table.get(key),
                DeValue::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => break,
            }
        }
        self.place(&value.span())
    }
}

/// The commonest fault of all, text without quotes, which the parser takes for a number or a date.
fn quotes_missing(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next().unwrap_or("").trim();
    let text = value.starts_with(|first: char| !"'\"[{+-.".contains(first));
    text.then(|| format!("text stands in quotes: {} = {}", shown(key.trim(), ""), shown(value, "\"")))
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1)).collect()
}

fn place(file: &Arc<str>, text: &str, lines: &[usize], byte: usize) -> Place {
    let byte = text.floor_char_boundary(byte);
    let line = lines.partition_point(|start| *start <= byte).max(1);
    let start = lines.get(line - 1).copied().unwrap_or(0);
    let before = text.get(start..byte).unwrap_or("");
    // A byte order mark is no character of the first line.
    let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
    Place { file: Arc::clone(file), line, column }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[endpoints.\"tür\".tls]
server_names = [\"ä\", \"b\"]
[[endpoints.\"tür\".tls.certificates]]
chain = \"a\"
[[endpoints.\"tür\".tls.certificates]]
\"ключ\".a = { b = 1 }
";

    fn at(path: &[&str]) -> (usize, usize) {
        let file: Arc<str> = "a.toml".into();
        let place = Document::parse(&file, TEXT).unwrap().locate(path);
        (place.line, place.column)
    }

    #[test]
    fn every_value_has_a_line_and_a_column_in_characters() {
        assert_eq!(at(&[]), (1, 1));
        assert_eq!(at(&["endpoints", "tür", "tls", "server_names", "1"]), (2, 22));
        assert_eq!(at(&["endpoints", "tür", "tls", "certificates", "0", "chain"]), (4, 9));
        assert_eq!(at(&["endpoints", "tür", "tls", "certificates", "1", "ключ", "a", "b"]), (6, 18));
    }

    #[test]
    fn a_tables_place_is_its_header() {
        assert_eq!(at(&["endpoints", "tür", "tls"]), (1, 1));
        assert_eq!(at(&["endpoints", "tür", "tls", "certificates", "1"]), (5, 1));
        // This one has no header of its own.
        assert_eq!(at(&["endpoints", "tür"]), (1, 12));
    }

    #[test]
    fn what_is_not_there_is_placed_at_its_nearest_ancestor() {
        assert_eq!(at(&["endpoints", "tür", "tls", "certificates", "1", "key"]), (5, 1));
        assert_eq!(at(&["endpoints", "tür", "tls", "certificates", "7", "key"]), (3, 1));
        assert_eq!(at(&["upstreams", "app"]), (1, 1));
    }

    #[test]
    fn a_fault_in_the_syntax_has_its_place() {
        let file: Arc<str> = "a.toml".into();
        let fault = Document::parse(&file, "[gateway]\nworkers = \n").err().unwrap();
        assert_eq!(fault.place.unwrap().line, 2);
        assert!(fault.message.starts_with("not TOML: "), "{}", fault.message);
        let twice = Document::parse(&file, "[gateway]\nworkers = 1\nworkers = 2").err().unwrap();
        assert_eq!((twice.message.as_str(), twice.place.unwrap().line), ("not TOML: duplicate key", 3));
    }

    #[test]
    fn text_without_quotes_is_told_to_get_some() {
        let file: Arc<str> = "a.toml".into();
        let fault = Document::parse(&file, "[admin]\nlisten = 127.0.0.1:80 # here").err().unwrap();
        assert_eq!(fault.remedy.unwrap(), "text stands in quotes: listen = \"127.0.0.1:80\"");
        assert_eq!(fault.place.unwrap().line, 2);
        assert_eq!(Document::parse(&file, "[admin]\nlisten = \"x").err().unwrap().remedy, None);
        assert_eq!(Document::parse(&file, "a = 1\na = 2").err().unwrap().remedy, None);
    }

    #[test]
    fn a_byte_order_mark_does_not_shift_the_first_line() {
        let file: Arc<str> = "a.toml".into();
        let document = Document::parse(&file, "\u{feff}gateway = { workers = 1 }").unwrap();
        assert_eq!(document.locate(&["gateway", "workers"]).column, 23);
    }
}
