//! Finds the chains under paths that someone named: files, and folders in which each file with a certificate is one.
//!
//! The command line's `audit` calls this; what it finds goes to the same audit as an endpoint's chains.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tls::audit;
use crate::tls::audit::rules::RuleId;
use crate::tls::chain::{self, Material, bundle, foreign};
use crate::tls::{parallel, pem};

/// How deep folders are looked into.
const MAX_DEPTH: usize = 16;
/// How many files are looked at in all: their names are held in memory.
const MAX_FILES: usize = 1_000_000;

/// A place that may hold a chain.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    kind: Kind,
    key: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    /// A file that was named: it is reported, whatever is in it.
    Named,
    /// A file of a folder: reported where it holds a certificate, or cannot be read to tell.
    Met,
    /// What was not looked into, and why.
    Skipped(String),
}

/// Every place under `paths`, folders in the order of their names. Nothing is read yet but folders.
#[must_use]
pub fn list(paths: &[PathBuf]) -> Vec<Place> {
    let mut places = Vec::new();
    for path in paths {
        if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
            walk(path, 0, &mut places);
        } else {
            places.push(Place::new(path.clone(), Kind::Named));
        }
    }
    places
}

/// Gives `key` to the chains that it belongs to, or where it belongs to none, to the first: that one's findings say so.
pub fn give_key(places: &mut [Place], key: &Path) {
    let belongs = |place: &Place| match place.kind {
        Kind::Skipped(_) => false,
        _ => audit::key_belongs(&chain::read(&place.path, Some(key))),
    };
    let mut mine: Vec<bool> = parallel::in_order(places, belongs).collect();
    if !mine.contains(&true) {
        mine.first_mut().into_iter().for_each(|first| *first = true);
    }
    for (place, _) in places.iter_mut().zip(mine).filter(|(_, mine)| *mine) {
        place.key = Some(key.to_owned());
    }
}

impl Place {
    fn new(path: PathBuf, kind: Kind) -> Self {
        Self { path, kind, key: None }
    }

    /// Whether it was named and is a PKCS#12 bundle that needs a password.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        matches!(self.kind, Kind::Named) && bundle::is_bundle(&self.path) && !bundle::opens(&self.path, "")
    }

    /// Reads the chain, if there is one to report. `password`: for PKCS#12 bundles.
    #[must_use]
    pub fn read(&self, password: Option<&str>) -> Option<Material> {
        match &self.kind {
            Kind::Skipped(why) => Some(Material::unread(&self.path, RuleId::FileUnreadable, why.clone())),
            Kind::Met if !is_chain(&self.path) => None,
            Kind::Met | Kind::Named => {
                Some(bundle::read(&self.path, password).unwrap_or_else(|| chain::read(&self.path, self.key.as_deref())))
            }
        }
    }
}

/// Adds the files in a folder. Folders that are symlinks are not followed: they may lead back here.
fn walk(folder: &Path, depth: usize, places: &mut Vec<Place>) {
    let mut skip = |why: String| places.push(Place::new(folder.to_owned(), Kind::Skipped(why)));
    if depth > MAX_DEPTH {
        return skip(format!("is a folder {depth} deep, and was not looked into"));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return skip(format!("cannot be read: {error}")),
    };
    let mut entries: Vec<fs::DirEntry> = entries.filter_map(Result::ok).take(MAX_FILES + 1).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if places.len() >= MAX_FILES {
            let why = format!("and what follows were not looked at: there are more than {MAX_FILES} files");
            return places.push(Place::new(path, Kind::Skipped(why)));
        } else if kind.is_dir() {
            walk(&path, depth + 1, places);
        } else if !(kind.is_symlink() && fs::metadata(&path).is_ok_and(|target| target.is_dir())) {
            places.push(Place::new(path, Kind::Met));
        }
    }
}

/// Whether a file is worth a report: it holds a certificate, or cannot be read to tell.
fn is_chain(path: &Path) -> bool {
    chain::read_file(path).map_or(true, |bytes| {
        let blocks = pem::blocks(&bytes);
        blocks.iter().any(pem::Block::promises_certificates)
            || (blocks.is_empty() && foreign::holds_a_certificate(&bytes))
    })
}
