//! Finds the chains under paths that someone named: files, and folders in which each file with a certificate is one.
//!
//! The command line's `audit` calls this; what it finds goes to the same audit as an endpoint's chains.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tls::chain::{self, Material, foreign};
use crate::tls::{audit, pem};

/// How deep folders are looked into.
const MAX_DEPTH: usize = 8;
/// How many files are looked at in all.
const MAX_FILES: usize = 10_000;

/// Reads every chain under `paths`, folders in the order of their names.
///
/// `key` goes to the chains that it belongs to, or where it belongs to none, to the first: that one's findings say so.
#[must_use]
pub fn collect(paths: &[PathBuf], key: Option<&Path>) -> Vec<Material> {
    let mut files = Vec::new();
    for path in paths {
        if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
            walk(path, 0, &mut files);
        } else {
            files.push(path.clone());
        }
    }
    let mut materials: Vec<Material> = files.iter().map(|file| chain::read(file, None)).collect();
    if let Some(key) = key {
        let mine: Vec<usize> = (0..files.len()).filter(|at| belongs(&files[*at], key)).collect();
        let chosen = if mine.is_empty() { (0..files.len().min(1)).collect() } else { mine };
        for index in chosen {
            materials[index] = chain::read(&files[index], Some(key));
        }
    }
    materials
}

fn belongs(file: &Path, key: &Path) -> bool {
    audit::key_belongs(&chain::read(file, Some(key)))
}

/// Adds the chain files in a folder. Folders that are symlinks are not followed: they may lead back here.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return files.push(folder.to_owned()) };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).take(MAX_FILES).collect();
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if hidden
            || files.len() >= MAX_FILES
            || fs::metadata(&path).is_ok_and(|target| target.is_dir() && found.is_symlink())
        {
            continue;
        }
        if found.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, depth + 1, files);
            }
        } else if is_chain(&path) {
            files.push(path);
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
