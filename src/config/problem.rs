//! What is wrong with a configuration, and where.
//!
//! Owns [`Problem`], the one shape in which every stage reports: reading, parsing and checking the file's shape
//! (`config/source.rs`), and `plan`, which collects into [`Problems`] by path and has them placed at the end.

use std::fmt;
use std::sync::Arc;

use super::source::Source;

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong with a configuration.
///
/// Displays as one line: `gateway.toml:12:1: endpoints.internet.lisen: unknown key; did you mean "listen"?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is; `None` where there is no file, or the file as a whole is meant.
    pub place: Option<Place>,
    /// The item's dotted path, such as `endpoints.internet.timeouts.handshake`, with the items of a list counted
    /// from 0; empty where no item is meant.
    pub item: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub remedy: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.item.is_empty() {
            write!(f, "{}: ", self.item)?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Collects what is wrong, by path, so that a check need not know whether there is a file at all.
#[derive(Debug, Default)]
pub struct Problems(Vec<Found>);

#[derive(Debug)]
struct Found {
    path: Vec<String>,
    message: String,
    remedy: Option<String>,
}

impl Problems {
    /// Adds one. The path is keys from the top, such as `["endpoints", "internet", "listen", "0"]`.
    pub fn push(&mut self, path: &[&str], message: impl Into<String>, remedy: Option<String>) {
        let path = path.iter().map(ToString::to_string).collect();
        self.0.push(Found { path, message: message.into(), remedy });
    }

    /// Adds all of another list.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// The value, or a problem at `path` that says why there is none.
    pub fn take<T>(&mut self, path: &[&str], result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.push(path, why, None)).ok()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, each with its place, in the order of the file; without a file, in the order found.
    #[must_use]
    pub fn placed(self, source: Option<&Source>) -> Vec<Problem> {
        let paths: Vec<&[String]> = self.0.iter().map(|found| found.path.as_slice()).collect();
        let places = match source {
            Some(source) => source.places(&paths),
            None => vec![None; paths.len()],
        };
        let mut problems: Vec<Problem> = self
            .0
            .into_iter()
            .zip(places)
            .map(|(Found { path, message, remedy }, place)| Problem { place, item: dotted(&path), message, remedy })
            .collect();
        sort(&mut problems);
        problems
    }
}

/// Sorts by line and column, and what has no place last; equal places stay in the order found.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| match &problem.place {
        Some(place) => (place.line, place.column),
        None => (usize::MAX, 0),
    });
}

/// A line each, without places.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Found { path, message, remedy }) in self.0.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{}: {message}", dotted(path))?;
            if let Some(remedy) = remedy {
                write!(f, "; {remedy}")?;
            }
        }
        Ok(())
    }
}

/// A path as TOML writes it: keys with dots between them, in quotes where a key is not bare.
pub(super) fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    let mut item = String::new();
    for key in path.iter().map(AsRef::as_ref) {
        if !item.is_empty() {
            item.push('.');
        }
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        item.push_str(&if bare { shown(key, "") } else { shown(key, "\"") });
    }
    item
}

/// Text from a file as it may stand in a message: on one line, without control characters, and not too long.
pub(super) fn shown(text: &str, quote: &str) -> String {
    const LONGEST: usize = 80;
    let rest = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    let start: String = text.chars().take(LONGEST).collect();
    let escaped = start.escape_debug().to_string().replace("\\'", "'");
    format!("{quote}{escaped}{rest}{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_place_item_message_and_remedy() {
        let problem = Problem {
            place: Some(Place { file: "gateway.toml".into(), line: 12, column: 1 }),
            item: "endpoints.internet.lisen".into(),
            message: "unknown key".into(),
            remedy: Some("did you mean \"listen\"?".into()),
        };
        assert_eq!(
            problem.to_string(),
            "gateway.toml:12:1: endpoints.internet.lisen: unknown key; did you mean \"listen\"?"
        );
        let bare = Problem { place: None, item: String::new(), remedy: None, ..problem };
        assert_eq!(bare.to_string(), "unknown key");
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let source = Source::new("a.toml", "[gateway]\nworkers = 1\n[log]\nlevel = \"info\"\n");
        let mut problems = Problems::default();
        problems.push(&["log", "level"], "second", None);
        problems.push(&["gateway", "workers"], "first", Some("do this".into()));
        assert!(!problems.is_empty());
        let shown: Vec<String> = problems.placed(Some(&source)).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.toml:2:11: gateway.workers: first; do this", "a.toml:4:9: log.level: second"]);
    }

    #[test]
    fn problems_of_a_configuration_without_a_file_have_no_place() {
        let mut problems = Problems::default();
        problems.push(&["endpoints", "a b.c", "listen"], "wrong", None);
        let placed = problems.placed(None);
        assert_eq!(placed.len(), 1);
        assert_eq!(placed[0].to_string(), "endpoints.\"a b.c\".listen: wrong");
    }

    #[test]
    fn what_a_file_says_cannot_break_the_line_or_the_terminal() {
        assert_eq!(dotted(&["a\n\u{1b}[2J"]), "\"a\\n\\u{1b}[2J\"");
        assert!(shown(&"x".repeat(1000), "\"").len() < 100);
    }
}
