//! Finds every PEM block that was begun in a file, whether or not a PEM reader would see it.
//!
//! Readers silently pass over a block whose BEGIN is glued to the END before it, one behind a byte order mark, and one
//! under an old label. Here each BEGIN is found on its own, and its block is decoded by itself, so that what was begun
//! and what was decoded can be compared (RFC 7468, section 2). `chain` asks.

use rustls::pki_types::CertificateRevocationListDer;
use rustls_pemfile::Item;

/// How a file writes the beginning of a block.
const BEGIN: &[u8] = b"-----BEGIN ";

/// A block that was begun.
pub(super) struct Block {
    /// What stands between `BEGIN ` and the dashes, with a question mark for each octet that no label has: it is shown.
    pub(super) label: String,
    /// The line that it begins on, from 1.
    pub(super) line: usize,
    /// Why a PEM reader would not see the block, in words.
    pub(super) hidden: Option<&'static str>,
    /// Whether an encryption header follows (RFC 1421, section 4.6.1.1).
    pub(super) encrypted: bool,
    /// What it holds; an error in words. Labels that `rustls-pemfile` does not know hold nothing.
    pub(super) item: Result<Option<Item>, String>,
}

impl Block {
    /// Whether a certificate, or several, are in it by its label.
    pub(super) fn promises_certificates(&self) -> bool {
        matches!(
            self.label.as_str(),
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" | "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS"
        )
    }

    /// Whether a private key is in it by its label.
    pub(super) fn promises_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }
}

/// Every block of a file. As many as the file's size allows: none is dropped silently.
pub(super) fn blocks(file: &[u8]) -> Vec<Block> {
    let starts: Vec<usize> = memchr::memmem::find_iter(file, BEGIN).filter(|at| !commented(file, *at)).collect();
    let mut line = 1;
    let mut counted = 0;
    let mut blocks = Vec::new();
    for (index, start) in starts.iter().copied().enumerate() {
        line += memchr::memchr_iter(b'\n', &file[counted..start]).count();
        counted = start;
        let end = starts.get(index + 1).copied().unwrap_or(file.len());
        blocks.push(block(&file[start..end], line, hidden(file, start)));
    }
    blocks
}

/// Every revocation list of a file, those too that a PEM reader would pass over.
///
/// # Errors
/// One that cannot be read, in words.
pub(super) fn revocation_lists(file: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let read = |block: Block| match block.item {
        Ok(Some(Item::Crl(list))) => Ok(list),
        Err(why) => Err(format!("the list at line {} {why}", block.line)),
        Ok(_) => Err(format!("the list at line {} cannot be read", block.line)),
    };
    blocks(file).into_iter().filter(|block| block.label == "X509 CRL").map(read).collect()
}

fn block(text: &[u8], line: usize, hidden: Option<&'static str>) -> Block {
    let label = &text[BEGIN.len()..];
    let end = label.iter().position(|b| matches!(b, b'-' | b'\n' | b'\r')).unwrap_or(label.len());
    let shown = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' };
    let label: String = label[..end.min(64)].trim_ascii().iter().map(shown).collect();
    let encrypted = label == "ENCRYPTED PRIVATE KEY" || memchr::memmem::find(text, b"Proc-Type: 4,ENCRYPTED").is_some();
    let item = if encrypted { Ok(None) } else { decode(text) };
    Block { label, line, hidden, encrypted, item }
}

/// The one place that `rustls-pemfile` is used in, at the owner's request. It is unmaintained (RUSTSEC-2025-0134), a
/// thin layer over `rustls-pki-types`, whose own reader would take its place here.
fn decode(text: &[u8]) -> Result<Option<Item>, String> {
    use rustls_pemfile::Error;
    match rustls_pemfile::read_one_from_slice(text) {
        Ok(found) => Ok(found.map(|(item, _)| item)),
        Err(Error::MissingSectionEnd { .. }) => Err("has no END line".into()),
        Err(Error::IllegalSectionStart { .. }) => Err("has a malformed BEGIN line".into()),
        Err(Error::Base64Decode(_)) => Err("is not valid base64".into()),
    }
}

/// Whether the text before `at`, on its line, makes the line a comment.
fn commented(file: &[u8], at: usize) -> bool {
    before(file, at).trim_ascii_start().starts_with(b"#")
}

/// Why a reader that looks for BEGIN at the beginning of a line does not see this one.
fn hidden(file: &[u8], at: usize) -> Option<&'static str> {
    let before = before(file, at);
    match before {
        [] => None,
        [0xef, 0xbb, 0xbf] => Some("stands behind a byte order mark"),
        _ if before.ends_with(b"-----") => Some("is glued to the END line before it"),
        _ if before.trim_ascii().is_empty() => Some("is indented"),
        _ => Some("does not begin its line"),
    }
}

/// What stands before `at` on the same line.
fn before(file: &[u8], at: usize) -> &[u8] {
    let line = memchr::memrchr2(b'\n', b'\r', &file[..at]).map_or(0, |newline| newline + 1);
    &file[line..at]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::blocks;
    use proptest::prelude::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";

    #[test]
    fn a_glued_block_is_found_and_said_to_be_glued() {
        let found = blocks(format!("{ONE}{ONE}\n").as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].hidden, None);
        assert_eq!(found[1].hidden, Some("is glued to the END line before it"));
        assert!(found[1].item.as_ref().unwrap().is_some());
    }

    #[test]
    fn a_byte_order_mark_an_indent_and_a_missing_end_are_told_apart() {
        let found = blocks(format!("\u{feff}{ONE}\n  {ONE}\n-----BEGIN CERTIFICATE-----\nAAAA\n").as_bytes());
        assert_eq!(found[0].hidden, Some("stands behind a byte order mark"));
        assert_eq!(found[1].hidden, Some("is indented"));
        assert_eq!(found[2].item.as_ref().unwrap_err(), "has no END line");
        assert_eq!(found.iter().map(|b| b.line).collect::<Vec<_>>(), [1, 4, 7]);
    }

    #[test]
    fn a_label_brings_no_control_character_into_a_message() {
        assert_eq!(blocks(b"-----BEGIN CE\x1b[2JRT\xff -----\n")[0].label, "CE?[2JRT?");
    }

    #[test]
    fn a_block_that_was_commented_out_is_not_begun() {
        assert!(blocks(b"# -----BEGIN CERTIFICATE-----\n# AAAA\n# -----END CERTIFICATE-----\n").is_empty());
    }

    proptest! {
        #[test]
        fn any_file_is_searched_without_a_panic(parts in proptest::collection::vec(
            prop_oneof![Just("-----BEGIN ".to_owned()), Just("-----".to_owned()), Just("\n".to_owned()),
                Just("CERTIFICATE".to_owned()), Just("-----END ".to_owned()), ".{0,5}"], 0..40))
        {
            let text = parts.concat();
            prop_assert!(blocks(text.as_bytes()).len() <= parts.len());
        }
    }
}
