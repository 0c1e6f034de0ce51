//! Makes a component of a core WebAssembly module that was compiled for the world of `wit/portcullis.wit`.
//!
//! Compilers of C make modules; what they call and are called by is described by the world alone, so it is given here. The
//! tool of this crate is `portcullis-component`; the gateway's tests call [`component`].

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract between the gateway and its Wasm plugins.
pub const WIT: &str = include_str!("../wit/portcullis.wit");

/// A component of this module.
///
/// # Errors
/// The module does not fit the world: what it lacks, or what it wants that the world does not have.
pub fn component(module: &[u8]) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("portcullis.wit", WIT).map_err(said)?;
    let world = resolve.select_world(&[package], Some("plugin")).map_err(said)?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(said)?;
    ComponentEncoder::default().module(&module).and_then(|mut encoder| encoder.encode()).map_err(said)
}

/// An error with its causes.
fn said(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_module_that_does_not_fit_is_refused_with_the_reason() {
        let said = super::component(b"\0asm\x01\0\0\0").unwrap_err();
        assert!(said.contains("portcullis:plugin/events@1.0.0"), "{said}");
        assert!(super::component(b"text").is_err());
    }
}
