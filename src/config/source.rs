//! A configuration file: its text, and where in it each word stands.
//!
//! Owns reading, and the way from text to [`Config`], which reports everything that is wrong with the file's shape in
//! one go. Called by the command line and by reload; `plan` asks it for the places of what it finds wrong.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Document;
use super::problem::{Place, Problem, sort};
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
        let mut problems = shape::check(&document, &json_schema());
        if !problems.is_empty() {
            sort(&mut problems);
            return Err(problems);
        }
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
