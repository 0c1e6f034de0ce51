//! Where to look for changes of a file: the folders that its path leads through, and which names in them matter.
//!
//! Asked by `watch`. A path may lead through links: Kubernetes swaps `..data`, certbot the file's own link. Each link's own
//! folder counts, and so does the folder of what it leads to in the end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Folders without links in their paths, each with the names in it that matter.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) names: HashMap<PathBuf, HashSet<OsString>>,
    /// Where folders really are, since thousands of files may share one.
    folders: HashMap<PathBuf, Option<PathBuf>>,
}

impl Places {
    /// Adds the places of a file, there or not.
    pub(super) fn add(&mut self, file: &Path) {
        let Ok(file) = std::path::absolute(file) else { return };
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return };
        let real = match self.folders.get(folder) {
            Some(real) => real.clone(),
            None => {
                let real = self.walk(Path::new("/"), folder);
                self.folders.insert(folder.to_owned(), real.clone());
                real
            }
        };
        if let Some(real) = real {
            self.walk(&real, Path::new(name));
            self.note(&real, name);
        }
    }

    /// Follows a path from a folder, noting every link on the way, or the name at which it ends too early. Where it leads;
    /// `None` where something is missing.
    fn walk(&mut self, from: &Path, path: &Path) -> Option<PathBuf> {
        let mut here = from.to_owned();
        let mut left: VecDeque<OsString> = pieces(path).collect();
        let mut links = 0;
        while let Some(piece) = left.pop_front() {
            if piece == "/" {
                here = PathBuf::from("/");
                continue;
            }
            if piece == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&piece);
            let found = fs::symlink_metadata(&next);
            let is_link = found.as_ref().is_ok_and(fs::Metadata::is_symlink);
            if is_link || found.is_err() || left.is_empty() {
                self.note(&here, &piece);
            }
            match found {
                Ok(_) if is_link && links < MOST_LINKS => {
                    links += 1;
                    let target = fs::read_link(&next).ok()?;
                    pieces(&target).collect::<Vec<_>>().into_iter().rev().for_each(|piece| left.push_front(piece));
                }
                Ok(_) if !is_link => here = next,
                _ => return None,
            }
        }
        Some(here)
    }

    fn note(&mut self, folder: &Path, name: &OsStr) {
        match self.names.get_mut(folder) {
            Some(names) => _ = names.insert(name.to_owned()),
            None => _ = self.names.insert(folder.to_owned(), HashSet::from([name.to_owned()])),
        }
    }
}

/// The pieces of a path that lead anywhere.
fn pieces(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter(|piece| *piece != Component::CurDir).map(|piece| piece.as_os_str().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("portcullis-places-{}-{test}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::canonicalize(folder).unwrap()
    }

    /// The places of a file as `folder/name`, relative to the test's folder.
    fn places(base: &Path, file: &str) -> BTreeSet<String> {
        let mut places = Places::default();
        places.add(&base.join(file));
        let all = places.names.iter().flat_map(|(folder, names)| names.iter().map(move |name| folder.join(name)));
        let inside = all.filter_map(|place| Some(place.strip_prefix(base).ok()?.display().to_string()));
        inside.filter(|place| !place.is_empty()).collect()
    }

    fn set(places: &[&str]) -> BTreeSet<String> {
        places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_file_is_looked_for_in_its_folder_and_a_missing_one_where_its_path_ends() {
        let base = folder("plain");
        fs::create_dir(base.join("certs")).unwrap();
        fs::write(base.join("certs/a.pem"), "").unwrap();
        assert_eq!(places(&base, "certs/a.pem"), set(&["certs/a.pem", "certs"]));
        assert_eq!(places(&base, "certs/../certs/./b.pem"), set(&["certs/b.pem", "certs"]));
        assert_eq!(places(&base, "gone/b.pem"), set(&["gone"]));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn every_link_on_the_way_counts_as_in_a_kubernetes_volume() {
        let base = folder("links");
        fs::create_dir_all(base.join("..2026")).unwrap();
        fs::write(base.join("..2026/tls.crt"), "").unwrap();
        symlink("..2026", base.join("..data")).unwrap();
        symlink("..data/tls.crt", base.join("tls.crt")).unwrap();
        assert_eq!(places(&base, "tls.crt"), set(&["tls.crt", "..data", "..2026/tls.crt"]));
        symlink(&base, base.join("whole")).unwrap();
        assert!(places(&base, "whole/tls.crt").contains("whole"));
        symlink("loop", base.join("loop")).unwrap();
        assert_eq!(places(&base, "loop/x"), set(&["loop"]));
        fs::remove_dir_all(&base).unwrap();
    }
}
