//! The file of ticket keys that a fleet shares.
//!
//! Read by `plan`, and again at every reload. One key a line, in base64: 48 or 80 random bytes, as HAProxy's lines are; or
//! one key of that length as it is, as nginx's files are. Blank lines, and what follows a `#`, are passed over.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::tls::chain::read_file;

/// A key's bytes, wiped when they are no longer needed.
pub type Secret = Zeroizing<Vec<u8>>;

/// How many bytes a key has: what nginx takes for AES-128 and for AES-256.
const LENGTHS: [usize; 2] = [48, 80];
/// More keys than this are some other file.
const MOST: usize = 64;
/// Others may do nothing with the file, and its group may read it at most.
const FORBIDDEN: u32 = 0o037;

/// A file of ticket keys.
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its keys; at least one. The first seals, and all of them open.
    pub secrets: Vec<Secret>,
    /// When it was last changed, in Unix time.
    pub modified: u64,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).field("keys", &self.secrets.len()).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Reads a file, and checks that it is kept to those who need it.
    ///
    /// # Errors
    /// What is wrong, in words that begin with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let place = |why: String| format!("{}: {why}", path.display());
        let bytes = Zeroizing::new(read_file(path).map_err(place)?);
        let found = std::fs::metadata(path).map_err(|error| place(error.to_string()))?;
        let mode = found.permissions().mode() & 0o777;
        if mode & FORBIDDEN != 0 {
            let (path, why) = (path.display(), "whoever has it can read the sessions of every client");
            return Err(format!("{path}: its mode is {mode:04o}, and {why}; run chmod 600 {path}"));
        }
        let modified = found.modified().map(super::unix).unwrap_or_default();
        Ok(Self { path: path.to_owned(), secrets: parse(&bytes).map_err(place)?, modified })
    }
}

/// The keys in a file's bytes.
///
/// # Errors
/// What is wrong, and where; never a key's own text.
pub fn parse(bytes: &[u8]) -> Result<Vec<Secret>, String> {
    let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if !is_text {
        let whole: Secret = Zeroizing::new(bytes.to_vec());
        return check(&whole, &[]).map(|()| vec![whole]);
    }
    let mut secrets: Vec<Secret> = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if text.is_empty() {
            continue;
        }
        let place = |why: &str| format!("line {}: {why}", index + 1);
        let secret = STANDARD.decode(text).map_err(|_| place("it is not base64"))?;
        let secret = Zeroizing::new(secret);
        check(&secret, &secrets).map_err(|why| place(&why))?;
        if secrets.len() == MOST {
            return Err(format!("it has more than {MOST} keys"));
        }
        secrets.push(secret);
    }
    if secrets.is_empty() {
        return Err("it has no key; make one with: openssl rand -base64 48".into());
    }
    Ok(secrets)
}

fn check(secret: &Secret, others: &[Secret]) -> Result<(), String> {
    if !LENGTHS.contains(&secret.len()) {
        return Err(format!(
            "a key has 48 or 80 bytes, and this has {}; make one with: openssl rand -base64 48",
            secret.len()
        ));
    }
    // A file of zeros is what a forgotten step leaves behind (CVE-2020-13777).
    if secret.iter().all(|byte| *byte == secret[0]) {
        return Err("the key is one byte repeated; make one with: openssl rand -base64 48".into());
    }
    if others.contains(secret) {
        return Err("the key stands there before".into());
    }
    Ok(())
}
