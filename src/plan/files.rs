//! The files that a plan is made from, besides the configuration: which they are, and what they held.
//!
//! `basis` compares what they held with what they hold now; `reload` watches them. A file that is read for an endpoint or an upstream
//! has its path in one of the lists here, and nowhere else.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};

use super::acme;
use crate::config::{Config, EndpointConfig, UpstreamConfig};
use crate::tls::parallel::in_order;

/// Every chain, key and staple that an endpoint's table names, or that ACME keeps for it.
pub(super) fn of_chains(config: &Config, endpoint: &EndpointConfig) -> impl Iterator<Item = PathBuf> {
    let listed = || endpoint.tls.iter().flat_map(|tls| &tls.certificates);
    let pairs = listed().filter_map(|listed| acme::files(config, listed)).flat_map(|(chain, key)| [chain, key]);
    pairs.chain(listed().filter_map(|listed| listed.ocsp.clone()))
}

/// Every other file that it names.
pub(super) fn others(config: &EndpointConfig) -> impl Iterator<Item = PathBuf> {
    let tables = config.tls.iter().flat_map(|tls| tls.certificates.iter().map(|pair| &pair.client_auth));
    let trust = config.tls.iter().map(|tls| &tls.client_auth).chain(tables).flatten();
    let tickets = config.tls.iter().filter_map(|tls| tls.tickets.keys.as_ref());
    trust.flat_map(|auth| std::iter::once(&auth.ca).chain(&auth.crl)).chain(tickets).cloned()
}

/// Every file that an upstream's table names.
pub(super) fn of_upstream(config: &UpstreamConfig) -> impl Iterator<Item = PathBuf> {
    let tables = config.tls.iter().flat_map(|tls| [Some(&tls.ca), tls.chain.as_ref(), tls.key.as_ref()]);
    tables.flatten().cloned()
}

/// What files held when they were last looked at, by path.
pub(super) type Contents = BTreeMap<PathBuf, Content>;

/// What a file held.
#[derive(Clone, Debug)]
pub(super) struct Content {
    stamp: Option<Stamp>,
    digest: Option<Digest>,
}

/// SHA-256 of a file.
pub(super) type Digest = [u8; 32];

/// The same bytes are the same content, whenever they were written.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Content {}

/// Looks at files. What `before` says of one whose stamp is the same need not be read again.
pub(super) fn look(
    paths: impl Iterator<Item = PathBuf>,
    directory: &Path,
    before: Option<&Contents>,
    now: SystemTime,
) -> Contents {
    let paths: Vec<PathBuf> = paths.map(|path| directory.join(path)).collect();
    let contents = in_order(&paths, |path| {
        // Before the file is read: one that changes in between then has another stamp the next time.
        let stamp = Stamp::of(path);
        let known = before.and_then(|before| before.get(path));
        let known = known.filter(|known| known.stamp == stamp && stamp.is_some_and(|stamp| stamp.is_settled(now)));
        known.cloned().unwrap_or_else(|| Content { stamp, digest: digest(path).ok() })
    });
    paths.iter().cloned().zip(contents).collect()
}

/// What a file held; `None` where it could not be read.
pub(super) fn digest_of(contents: &Contents, path: &Path) -> Option<Digest> {
    contents.get(path)?.digest
}

/// What the file system says of a file, by which one that was written again is told without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970. No program sets the change time, as some set the modification time.
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Stamp {
    /// A file's stamp, where links lead to one.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let of = |found: Metadata| Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
            modified: (found.mtime(), found.mtime_nsec()),
        };
        std::fs::metadata(path).ok().map(of)
    }

    /// Whether a later change would show: file systems count time in steps, so a file that has only just been written
    /// may be written again within the same step.
    fn is_settled(&self, now: SystemTime) -> bool {
        const STEP: Duration = Duration::from_secs(2);
        let since = u64::try_from(self.changed.0).unwrap_or_default();
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since) + STEP).is_some_and(|settled| settled < now)
    }
}

/// The SHA-256 digest of a regular file; a pipe could make us wait for ever.
fn digest(path: &Path) -> io::Result<Digest> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = [0; 8192];
    // Bounded by the file, whose pieces are forgotten one by one.
    loop {
        match file.read(&mut buffer)? {
            0 => return context.finish().as_ref().try_into().map_err(|_| io::ErrorKind::InvalidData.into()),
            n => context.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_where_its_stamp_changed_or_is_too_young_to_tell() {
        let folder = std::env::temp_dir().join(format!("portcullis-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a"), "one").unwrap();
        let look = |before, now| look(["a", "b"].map(PathBuf::from).into_iter(), &folder, before, now);
        let now = SystemTime::now();
        let mut first = look(None, now);
        assert_eq!(digest_of(&first, &folder.join("b")), None);
        // A digest that no reading would give shows who was asked.
        first.get_mut(&folder.join("a")).unwrap().digest = Some([7; 32]);
        let later = now + Duration::from_secs(10);
        assert_eq!(digest_of(&look(Some(&first), later), &folder.join("a")), Some([7; 32]), "taken over");
        assert_ne!(digest_of(&look(Some(&first), now), &folder.join("a")), Some([7; 32]), "too young");
        std::fs::write(folder.join("a"), "two and more").unwrap();
        assert_ne!(digest_of(&look(Some(&first), later), &folder.join("a")), Some([7; 32]), "changed");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
