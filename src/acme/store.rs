//! What is kept on disk: an account, and each certificate with its key. A crash half-way leaves what was there before.
//!
//! Called by `account` and `acme`. Files are made for their owner alone, whatever the umask, and replaced by a rename.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::failure::Failure;
use crate::metrics::AcmeFailure;
use crate::tls::chain;

/// The leaf of a stored certificate.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// In lower case.
    pub(super) names: Vec<String>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) sha256: String,
    pub(super) der: CertificateDer<'static>,
}

/// The leaf of a stored certificate; `None` where there is none, or not with its key.
pub(super) fn leaf(file: &Path) -> Option<Leaf> {
    let material = chain::read(file, Some(file));
    let leaf = material.certificates.first().filter(|_| material.faults.is_empty())?;
    Some(Leaf {
        names: leaf.names().iter().map(|name| name.to_ascii_lowercase()).collect(),
        not_before: leaf.not_before.into(),
        not_after: leaf.not_after.into(),
        sha256: leaf.sha256.clone(),
        der: leaf.der.clone(),
    })
}

/// A file that is whole on disk but has not taken its place yet.
pub(super) struct Pending {
    file: PathBuf,
    place: PathBuf,
}

impl Pending {
    /// Writes it beside its place, in a folder that is made if need be.
    pub(super) fn write(place: &Path, content: &[u8]) -> Result<Self, Failure> {
        let mut file = place.as_os_str().to_owned();
        file.push(".new");
        let pending = Self { file: file.into(), place: place.to_owned() };
        pending.fill(content).map_err(|error| fault(&pending.file, &error))?;
        Ok(pending)
    }

    fn fill(&self, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.place.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        // What a crash has left; its mode may be anything.
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file)?;
        file.write_all(content)?;
        file.sync_all()
    }

    /// Where it is now.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Has it take its place, for good.
    pub(super) fn commit(self) -> Result<(), Failure> {
        let renamed = fs::rename(&self.file, &self.place);
        // The rename itself must survive a crash, or the authority is asked for the same again.
        let synced = renamed.and_then(|()| File::open(self.place.parent().unwrap_or(Path::new(".")))?.sync_all());
        synced.map_err(|error| fault(&self.place, &error))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file); // after `commit` there is none
    }
}

/// A failure of the storage.
pub(super) fn fault(file: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(AcmeFailure::Storage, format!("{}: {error}", file.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_and_appears_whole_or_not_at_all() {
        let base = std::env::temp_dir().join(format!("portcullis-store-{}", std::process::id()));
        let place = base.join("acme/ca.example/www.pem");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        Pending::write(&place, b"old").unwrap().commit().unwrap();
        assert_eq!((mode(&place), mode(place.parent().unwrap())), (0o600, 0o700));
        // A crash while it is replaced: the new one is there in part, and anybody's.
        fs::write(place.with_extension("pem.new"), "ne").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"old");
        let pending = Pending::write(&place, b"new").unwrap();
        assert_eq!((mode(pending.file()), fs::read(&place).unwrap().as_slice()), (0o600, b"old".as_slice()));
        drop(pending);
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1, "what is given up is gone");
        Pending::write(&place, b"new").unwrap().commit().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        fs::remove_dir_all(&base).unwrap();
    }
}
