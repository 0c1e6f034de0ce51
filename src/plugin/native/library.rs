//! Loading a plugin's file, once for all bytes that are the same, and never unloading it.
//!
//! The file is read once and loaded from a copy that is named by its digest, in a folder that only we can write to: what was
//! looked at is what is loaded, and the loader, which knows a library by its path, cannot hand out an older one.
//! Unloading is unsound, since the plugin's threads and thread-locals may live on; so generations are counted.

#![allow(unsafe_code, reason = "loading a library runs its code, and a symbol's type is a promise")]

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use libloading::os::unix::{Library as Loaded, RTLD_LOCAL, RTLD_NOW};
use portcullis_plugin_abi::{STARTUP, pc_startup_fn};

/// The largest file that is taken for a plugin.
const LARGEST: u64 = 256 * 1024 * 1024;
/// How many versions of one file a process may hold, since none is ever unloaded.
const GENERATIONS: usize = 8;

/// A library that is loaded for good.
#[derive(Debug)]
pub(super) struct Library {
    /// The file it was first loaded from.
    file: PathBuf,
    name: String,
    digest: String,
    startup: pc_startup_fn,
}

impl Library {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn digest(&self) -> &str {
        &self.digest
    }

    pub(super) fn startup(&self) -> pc_startup_fn {
        self.startup
    }
}

/// Every library of the process.
static LOADED: Mutex<Vec<Arc<Library>>> = Mutex::new(Vec::new());

/// Loads a file, unless these bytes are loaded already.
pub(super) fn load(file: &Path) -> Result<Arc<Library>, String> {
    let bytes = read(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let hash: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // Held while loading, so that two endpoints do not load the same bytes twice.
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = loaded.iter().find(|library| library.digest == hash) {
        return Ok(Arc::clone(known));
    }
    if loaded.iter().filter(|library| library.file == file).count() >= GENERATIONS {
        return Err(format!(
            "{}: this process has loaded {GENERATIONS} versions of it, and none can be unloaded; restart the gateway",
            file.display()
        ));
    }
    let startup = open(&bytes, &hash).map_err(|why| format!("{}: {why}", file.display()))?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    let library = Arc::new(Library { file: file.to_owned(), name, digest: hash, startup });
    loaded.push(Arc::clone(&library));
    Ok(library)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    opened.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err("is no shared library; build it with cc -shared -fPIC, or as a Rust cdylib".into());
    }
    Ok(bytes)
}

/// Loads the bytes and finds the one symbol.
fn open(bytes: &[u8], hash: &str) -> Result<pc_startup_fn, String> {
    let folder = Folder::new(hash)?;
    let copy = folder.0.join(format!("{hash}.so"));
    std::fs::write(&copy, bytes).map_err(|error| format!("cannot be copied to {}: {error}", copy.display()))?;
    // SAFETY: loading runs the library's initialisers. The operator named this file as trusted code.
    let library = unsafe { Loaded::open(Some(&copy), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        format!("cannot be loaded: {error}; where {} forbids execution, set TMPDIR", folder.0.display())
    })?;
    // SAFETY: the contract gives the symbol of this name this type.
    let startup = unsafe { library.get::<pc_startup_fn>(STARTUP.as_bytes()) };
    let startup = *startup.map_err(|_| format!("exports no {STARTUP}; is it a plugin?"))?;
    // Never unloaded, so the function stays where it is.
    std::mem::forget(library);
    Ok(startup)
}

/// A folder that nobody else can write to, for the time of loading.
struct Folder(PathBuf);

impl Folder {
    fn new(hash: &str) -> Result<Self, String> {
        let name = |n: u32| format!("portcullis-{}-{}-{n}", std::process::id(), &hash[..16]);
        let mut last = None;
        // One that exists was left by a process of the same number that was killed, or is somebody's trap.
        for n in 0..16 {
            let path = std::env::temp_dir().join(name(n));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) => last = Some(format!("{}: {error}", path.display())),
            }
        }
        Err(format!("there is no folder to load it from: {}; set TMPDIR", last.unwrap_or_default()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is mapped stays mapped.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
