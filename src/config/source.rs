//! A configuration file: its text, and where in it each word stands.
//!
//! Owns reading, and the way from text to [`Config`], which reports everything that is wrong with the file's shape in
//! one go. Called by the command line and by reload; `plan` asks it for the places of what it finds wrong.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::problem::{Place, Problem};
use super::{Config, json_schema, shape};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// A configuration's text, and the file that it came from.
#[derive(Clone, Debug)]
pub struct Source {
    file: Arc<str>,
    directory: PathBuf,
    text: String,
}

impl Source {
    /// Text that is not read from a file, such as the embedded demo's. Relative paths in it are relative to the
    /// process's own directory.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        Self { file: name.into(), directory: PathBuf::new(), text: text.into() }
    }

    /// The embedded demo. Its TLS endpoint lists no certificate: whoever runs it passes one beside the configuration.
    #[must_use]
    pub fn demo() -> Self {
        Self::new("demo.toml", include_str!("../../config/demo.toml"))
    }

    /// Reads a file of at most 1 MiB of UTF-8.
    ///
    /// # Errors
    /// A problem that names the file, where it cannot be read, is none (a directory, or a pipe, which would block), is
    /// too large or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let file: Arc<str> = path.display().to_string().into();
        let refuse = |place, message: String, remedy: Option<&str>| Problem {
            place,
            item: String::new(),
            message,
            remedy: remedy.map(Into::into),
        };
        let bytes = read_bounded(path).map_err(|(why, remedy)| refuse(None, format!("{file}: {why}"), remedy))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
            let last = before.rsplit('\n').next().unwrap_or("");
            let place = Place {
                file: Arc::clone(&file),
                line: before.matches('\n').count() + 1,
                column: last.chars().count() + 1,
            };
            refuse(Some(place), "not UTF-8".into(), Some("save the file as UTF-8"))
        })?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Ok(Self { file, directory, text })
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The directory that relative paths in the configuration start from: the file's own.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The configuration, in the file's words.
    ///
    /// # Errors
    /// Everything that is wrong with the file's shape, in the order of the file. A fault in the syntax is alone.
    pub fn parse(&self) -> Result<Config, Vec<Problem>> {
        let document = Document::parse(&self.file, &self.text).map_err(|fault| vec![fault])?;
        let problems = shape::check(&document, &json_schema());
        if !problems.is_empty() {
            return Err(problems);
        }
        // What passed the walk deserializes, as a property test holds; were it otherwise, serde's word is passed on.
        toml::from_str(&self.text).map_err(|error| {
            let place = document.place(&error.span().unwrap_or_default());
            vec![Problem { place: Some(place), item: String::new(), message: error.message().into(), remedy: None }]
        })
    }

    /// The place of a path's value, such as `["endpoints", "internet", "listen", "0"]`; of what is not there, the place
    /// of the nearest table or list around it. A table's place is its header.
    ///
    /// `None` where the text is not TOML.
    #[must_use]
    pub fn locate(&self, path: &[&str]) -> Option<Place> {
        let document = Document::parse(&self.file, &self.text).ok()?;
        Some(document.locate(path))
    }

    /// [`Source::locate`] for many paths at the price of one.
    pub(super) fn places(&self, paths: &[&[String]]) -> Vec<Option<Place>> {
        let document = Document::parse(&self.file, &self.text).ok();
        paths.iter().map(|path| document.as_ref().map(|document| document.locate(path))).collect()
    }
}

/// The file's bytes, or why not, and what to do.
fn read_bounded(path: &Path) -> Result<Vec<u8>, (String, Option<&'static str>)> {
    let unreadable = |error: std::io::Error| (format!("cannot read the configuration: {error}"), None);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(("is a directory".into(), Some("name the configuration file in it")));
    }
    if !metadata.is_file() {
        return Err(("is not a regular file".into(), Some("name a file")));
    }
    let mut bytes = Vec::new();
    // The size may change after it was looked at, so the reading is bounded too.
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err((format!("is larger than {LARGEST} bytes"), Some("name a configuration file")));
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: &str = include_str!("../../config/full.toml");

    /// A directory of one test's own, removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("portcullis-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, bytes: &[u8]) -> PathBuf {
            let path = self.0.join("gateway.toml");
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_read_and_its_paths_start_from_its_directory() {
        let directory = Directory::new("read");
        let source = Source::read(&directory.file(b"[gateway]\nworkers = 3\n")).unwrap();
        assert_eq!(source.directory(), directory.0);
        assert_eq!(source.parse().unwrap().gateway.workers, 3);
    }

    #[test]
    fn what_is_no_configuration_file_is_refused_by_name() {
        let directory = Directory::new("refused");
        let missing = Source::read(&directory.0.join("none.toml")).unwrap_err().to_string();
        assert!(missing.contains("none.toml: cannot read the configuration: No such file"), "{missing}");
        assert!(Source::read(&directory.0).unwrap_err().message.contains("is a directory"));
        assert!(Source::read(Path::new("/dev/null")).unwrap_err().message.contains("is not a regular file"));
        let large = directory.file(&vec![b'#'; 1024 * 1024 + 1]);
        assert!(Source::read(&large).unwrap_err().message.contains("is larger than 1048576 bytes"));
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_refused_with_the_place() {
        let directory = Directory::new("utf8");
        let problem = Source::read(&directory.file(b"# one\n# \xc3\xa4 \xff\n")).unwrap_err();
        let place = problem.place.unwrap();
        assert_eq!((place.line, place.column), (2, 5));
        assert!(place.file.ends_with("gateway.toml"));
    }

    #[test]
    fn nesting_as_deep_as_the_parser_lets_through_is_refused() {
        let key = ["a"; 78].join(".");
        let text = format!("[handlers.{key}]\n{key} = {}1{}", format!("{{{key} = ").repeat(78), "}".repeat(78));
        assert!(Source::new("a.toml", &text).parse().is_err());
        let text = text.replace("handlers", "endpoints.a.settings");
        assert!(Source::new("a.toml", &text).parse().is_err());
    }

    /// What a slip of a person, or of a disk, does to a file.
    fn mutated(text: &str, kind: u8, at: usize, with: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let line = at % lines.len();
        let mut changed: Vec<String> = lines.iter().map(ToString::to_string).collect();
        match kind {
            0 => drop(changed.remove(line)),
            1 => changed.insert(line, with.into()),
            2 => changed.insert(line, lines[at / lines.len() % lines.len()].into()),
            3 => changed[line] = lines[line].split('=').next().unwrap_or("").to_owned() + "= " + with,
            4 => changed[line] = with.to_owned() + lines[line],
            _ => changed[line] = lines[line].replace('"', with),
        }
        changed.join("\n")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_file_whose_shape_is_right_always_deserializes(
            slips in prop::collection::vec((0..6_u8, any::<usize>(), prop_oneof![
                "[a-z_]{1,8} = (1|-1|9223372036854775807|1e999|nan|true|\"x\"|\\[\\]|\\{\\}|2026-11-21|0x1F)",
                "(1|-1|70000|99999999999999999999|1.5|1e999|true|\"x\"|\"\"|\\[\\]|\\[1, \"x\"\\]|\\{ a = 1 \\}|07:32:00)",
                "\\[\\[?[a-z.]{1,12}\\]?\\]",
                "\\PC{0,6}",
            ]), 1..4),
        ) {
            let text = slips.iter().fold(FULL.to_owned(), |text, (kind, at, with)| mutated(&text, *kind, *at, with));
            let source = Source::new("a.toml", &text);
            if let Ok(document) = Document::parse(&source.file, &text)
                && shape::check(&document, &json_schema()).is_empty()
            {
                let read = toml::from_str::<Config>(&text);
                prop_assert!(read.is_ok(), "{}", read.unwrap_err());
            }
            let problems = source.parse().err().unwrap_or_default();
            prop_assert!(problems.iter().all(|problem| problem.to_string().lines().count() == 1));
        }
    }
}
