//! Reading a component's file: what it is, what it wants of us and what it offers, before a line of it runs.
//!
//! Called by `wasm` and by `inspect`. Equal bytes are compiled once for as long as anybody uses them. Only source is taken,
//! never code that was compiled elsewhere: that could not be checked.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use wasmtime::component::{Component, InstancePre, Linker};

use super::engine::engine;
use super::imports::{State, link};
use super::words::{EVENTS, HOST, TYPES, VERSION};

/// The largest file that is taken for a component.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How a component begins: the magic word, and the version and layer of its encoding.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// How a module begins.
const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

/// A component, compiled and ready to be instantiated.
pub(super) struct Compiled {
    pub(super) digest: String,
    pub(super) ready: InstancePre<State>,
    /// The version of the world that it was made for.
    pub(super) version: (u32, u32),
}

/// What is in use.
static COMPILED: Mutex<Vec<Weak<Compiled>>> = Mutex::new(Vec::new());

/// Reads, checks and compiles a file, unless these bytes are in use already.
pub(super) fn load(file: &Path) -> Result<Arc<Compiled>, String> {
    let bytes = read(file)?;
    let hash: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // Held while compiling, so that two endpoints do not compile the same bytes twice.
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.retain(|known| known.strong_count() > 0);
    if let Some(known) = compiled.iter().filter_map(Weak::upgrade).find(|known| known.digest == hash) {
        return Ok(known);
    }
    let new = Arc::new(compile(&bytes, hash)?);
    compiled.push(Arc::downgrade(&new));
    Ok(new)
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    if !std::fs::metadata(file).map_err(|error| error.to_string())?.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    opened.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is larger than {LARGEST} bytes"));
    }
    if bytes.starts_with(&MODULE) {
        let help = "make a component of it by portcullis-component, or by wasm-tools component new";
        return Err(format!("is a WebAssembly module, not a component; {help}"));
    }
    if !bytes.starts_with(&COMPONENT) {
        return Err("is no WebAssembly component in binary form".into());
    }
    Ok(bytes)
}

fn compile(bytes: &[u8], digest: String) -> Result<Compiled, String> {
    let engine = engine()?;
    let component = Component::from_binary(engine, bytes).map_err(|error| format!("cannot be compiled: {error:#}"))?;
    let kind = component.component_type();
    for (name, _) in kind.imports(engine) {
        check_import(name)?;
    }
    let version = version(kind.exports(engine).map(|(name, _)| name))?;
    let mut linker = Linker::new(engine);
    let ready = link(&mut linker).and_then(|()| linker.instantiate_pre(&component));
    let ready = ready.map_err(|error| format!("does not fit the world {EVENTS}: {error:#}"))?;
    Ok(Compiled { digest, ready, version })
}

/// What a component imports, for people.
pub(super) fn imports(compiled: &Compiled) -> String {
    let (engine, kind) = (compiled.ready.engine(), compiled.ready.component().component_type());
    let names: Vec<_> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Whether a component that imports this can be satisfied.
fn check_import(name: &str) -> Result<(), String> {
    match interface(name) {
        Some((HOST | TYPES, version)) => check_version(version),
        _ => Err(format!(
            "imports {name}, and the gateway gives {HOST} alone: no files, sockets or clocks; build it without WASI"
        )),
    }
}

/// The version of the world that a component was made for, from what it exports.
fn version<'a>(mut exports: impl Iterator<Item = &'a str>) -> Result<(u32, u32), String> {
    let found = exports.find_map(|name| interface(name).filter(|(interface, _)| *interface == EVENTS));
    let (_, version) = found.ok_or_else(|| format!("exports no {EVENTS}; is it a plugin?"))?;
    check_version(version)?;
    Ok(version)
}

/// Who was made for a version runs where that or a later one of the same major number is spoken.
fn check_version(made_for: (u32, u32)) -> Result<(), String> {
    let (major, minor) = VERSION;
    if made_for.0 == major && made_for.1 <= minor {
        return Ok(());
    }
    let advice = if made_for > VERSION { "use an older plugin or a newer gateway" } else { "use a newer plugin" };
    Err(format!(
        "was made for version {}.{}, and this gateway speaks {major}.{minor}; {advice}",
        made_for.0, made_for.1
    ))
}

/// An interface's name apart from its version, "package:name/interface@major.minor.patch".
fn interface(name: &str) -> Option<(&str, (u32, u32))> {
    let (name, version) = name.split_once('@')?;
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    let version = (numbers.next()??, numbers.next()??);
    numbers.next()?;
    Some((name, version))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_component_is_for_this_gateway_if_its_version_is_no_higher_and_its_major_number_the_same() {
        assert_eq!(version(["other", "portcullis:plugin/events@1.0.7"].into_iter()), Ok((1, 0)));
        let said = |name: &str| version([name].into_iter()).unwrap_err();
        assert!(said("portcullis:plugin/events@1.1.0").contains("made for version 1.1"));
        assert!(said("portcullis:plugin/events@2.0.0").ends_with("use an older plugin or a newer gateway"));
        assert!(said("portcullis:plugin/events@0.9.0").ends_with("use a newer plugin"));
        assert!(said("portcullis:plugin/events").contains("exports no portcullis:plugin/events"));
        assert!(said("wasi:cli/run@1.0.0").contains("is it a plugin?"));
    }

    #[test]
    fn what_is_not_ours_may_not_be_imported() {
        assert_eq!(check_import("portcullis:plugin/host@1.0.0"), Ok(()));
        assert_eq!(check_import("portcullis:plugin/types@1.0.0"), Ok(()));
        for name in ["wasi:filesystem/types@0.2.0", "portcullis:plugin/host", "portcullis:plugin/events@1.0.0", ""] {
            assert!(check_import(name).unwrap_err().contains("build it without WASI"), "{name}");
        }
        assert!(check_import("portcullis:plugin/host@1.1.0").unwrap_err().contains("1.1"));
    }

    proptest! {
        #[test]
        fn any_name_is_read_or_left(name in "\\PC*", major in any::<u32>(), minor in any::<u32>(), patch in any::<u32>()) {
            let _ = (interface(&name), check_import(&name));
            let whole = format!("a:b/c@{major}.{minor}.{patch}");
            prop_assert_eq!(interface(&whole), Some(("a:b/c", (major, minor))));
        }

        #[test]
        fn any_bytes_behind_the_header_are_compiled_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = compile(&[&COMPONENT[..], &bytes].concat(), String::new());
        }
    }
}
