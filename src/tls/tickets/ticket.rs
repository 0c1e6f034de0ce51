//! What a ticket holds, and how it is sealed.
//!
//! Used by `tickets`. Sealed: the key's id, a nonce, and what AES-256-GCM-SIV makes of the plain text; that cipher forgives
//! a nonce that chance repeats, so no count of tickets need be shared by those who share a key. Plain: when the session
//! began (8 octets), how many certificates the client sent (1), each with its length (3), and rustls' own state.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::pki_types::CertificateDer;

use super::ID;

/// A session that can be resumed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Session<'a> {
    /// When its first, full handshake was, in Unix time.
    pub(super) begun: u64,
    /// The client's chain; empty where it sent none.
    pub(super) client: Vec<CertificateDer<'a>>,
    /// What rustls keeps of it.
    pub(super) state: &'a [u8],
}

/// A session as plain text; `None` where the client's chain is longer than any honest one.
pub(super) fn write(begun: u64, client: &[CertificateDer<'_>], state: &[u8]) -> Option<Vec<u8>> {
    let mut plain = begun.to_be_bytes().to_vec();
    plain.push(u8::try_from(client.len()).ok()?);
    for certificate in client {
        let [0, length @ ..] = u32::try_from(certificate.len()).ok()?.to_be_bytes() else { return None };
        plain.extend(length);
        plain.extend_from_slice(certificate);
    }
    plain.extend_from_slice(state);
    Some(plain)
}

/// Reads what [`write`] wrote.
pub(super) fn read(plain: &[u8]) -> Option<Session<'_>> {
    let (begun, rest) = plain.split_first_chunk::<8>()?;
    let (count, mut rest) = rest.split_first()?;
    let mut client = Vec::new();
    for _ in 0..*count {
        let (&[a, b, c], after) = rest.split_first_chunk::<3>()?;
        let (certificate, after) = after.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
        client.push(CertificateDer::from(certificate));
        rest = after;
    }
    Some(Session { begun: u64::from_be_bytes(*begun), client, state: rest })
}

/// Seals plain text under a key with this id.
pub(super) fn seal(key: &RandomizedNonceKey, id: &[u8; ID], mut plain: Vec<u8>) -> Option<Vec<u8>> {
    let nonce = key.seal_in_place_append_tag(Aad::from(id), &mut plain).ok()?;
    Some([&id[..], nonce.as_ref(), &plain].concat())
}

/// Opens what [`seal`] sealed with the same key; `None` for anything else.
pub(super) fn open(key: &RandomizedNonceKey, id: &[u8; ID], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.strip_prefix(id)?.split_first_chunk::<NONCE_LEN>()?;
    let mut text = text.to_vec();
    let length = key.open_in_place(Nonce::from(nonce), Aad::from(id), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}
