//! The contract between Portcullis and a native plugin: versioned tables of C functions.
//!
//! A plugin is a shared library that exports one symbol, [`STARTUP`], of type [`pc_startup_fn`]. The gateway calls it once
//! for every endpoint that names the plugin; the two sides agree on a version and hand each other a table of functions.
//! From then on the gateway calls the plugin's table ([`pc_plugin`]) and the plugin calls the gateway's ([`pc_host`]).
//!
//! `include/portcullis_plugin.h` is made from these declarations by a test. Everything here is append only: a new function
//! goes to the end of its table with the version that brings it, and `layout.txt` holds the offsets that must not move.
//! `docs/plugins.md` tells plugin authors how to use it; Rust authors use the `portcullis-plugin` crate instead.

#![allow(non_camel_case_types, reason = "the names are those of the C header")]

mod codes;
#[cfg(test)]
mod header;
mod records;
mod shape;
mod tables;

pub use codes::*;
pub use records::*;
pub use shape::{CType, Function, Member};
pub use tables::*;

/// The name of the one symbol that a plugin exports.
pub const STARTUP: &str = "portcullis_plugin_startup";

/// A version as one number: the major part above the minor one, so that comparing numbers compares versions.
///
/// (The WORD of WSAStartup keeps the major part in the low byte. This does not.)
#[must_use]
pub const fn version(major: u16, minor: u16) -> u32 {
    (major as u32) << 16 | minor as u32
}

/// The version that these declarations describe.
pub const VERSION: u32 = version(1, 0);

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn numbers_compare_as_versions_do() {
        assert!(version(1, 9) < version(1, 10) && version(1, 10) < version(2, 0));
    }
}
