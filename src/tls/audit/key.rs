//! The private key and the pair it makes with the leaf, and rules about public keys.

use std::sync::Arc;

use num_bigint::BigUint;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::SigningKey;

use super::{Found, View};
use crate::tls::audit::rules::{Level, RuleId};
use crate::tls::certificate::Certificate;
use crate::tls::chain::Material;
use crate::tls::der;
use crate::tls::key::{Curve, PublicKey};

/// The private key, as far as it can be used.
#[derive(Clone)]
pub(super) struct Signing {
    /// What signs handshakes; `None` without a key file, or where the provider cannot use the key.
    pub(super) key: Option<Arc<dyn SigningKey>>,
    /// The certificates that it belongs to, as indices.
    pub(super) matching: Vec<usize>,
}

/// Loads the private key and finds the certificates that it belongs to.
pub(super) fn load(material: &Material) -> Signing {
    let key = material.key.as_ref().and_then(|key| any_supported_type(key).ok());
    let public = key.as_ref().and_then(|key| key.public_key()).and_then(|spki| split_spki(&spki));
    let matching = public.map_or_else(Vec::new, |(algorithm, bits)| {
        let mine = |certificate: &&Certificate| {
            let raw = &certificate.raw;
            raw.key_bits == bits && der::split(&raw.key_algorithm).is_some_and(|(oid, _)| oid.content == algorithm)
        };
        let certificates = material.certificates.iter().enumerate();
        certificates.filter(|(_, certificate)| mine(certificate)).map(|(index, _)| index).collect()
    });
    Signing { key, matching }
}

/// The algorithm's object identifier and the key's bits. Parameters are left out: a missing NULL is not another key.
fn split_spki(spki: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (algorithm, bits) = der::take(der::SEQUENCE, der::take(der::SEQUENCE, spki)?.0)?;
    Some((der::take(der::OID, algorithm)?.0.to_vec(), der::bits(bits)?.to_vec()))
}

/// Looks at the private key beside the leaf.
pub(super) fn check_pair(view: &View<'_>, signing: &Signing, found: &mut Found) {
    let leaf = view.leaf();
    let key_file = view.material.key_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    match (&view.material.key, &signing.key) {
        _ if cannot_sign(&leaf.key) => {
            found.at(
                RuleId::KeyUnsupported,
                leaf,
                format!("its key is {}, which the gateway cannot sign with", leaf.key),
            );
        }
        (Some(_), None) => found.at(
            RuleId::KeyUnsupported,
            leaf,
            format!("the private key in {key_file} is none that the gateway can sign with"),
        ),
        // It may be the key of a certificate that cannot be read, which is told.
        (Some(_), Some(_)) if signing.matching.is_empty() && view.certificates.len() < view.material.begun => {}
        (Some(_), Some(_)) if !signing.matching.contains(&view.path.members[0]) => {
            let seen = match signing.matching.first().map(|index| view.at(*index)) {
                Some(other) => format!(
                    "the private key in {key_file} is not its own; it belongs to certificate {} ({})",
                    other.position, other.subject
                ),
                None => {
                    format!("the private key in {key_file} is not its own, nor any other certificate's of the file")
                }
            };
            found.at(RuleId::KeyMismatch, leaf, seen);
        }
        _ => {}
    }
}

/// Whether no handshake can be signed for a certificate with such a key: the provider cannot, or no client verifies it,
/// as with explicit curve parameters.
fn cannot_sign(key: &PublicKey) -> bool {
    match key {
        PublicKey::Rsa { modulus, .. } => !(2048..=8192).contains(&modulus.bits()),
        PublicKey::Ec(curve) => matches!(curve, Curve::Other(_)),
        PublicKey::Ed25519 | PublicKey::MlDsa(_) => false,
        PublicKey::RsaPss { .. } | PublicKey::EcExplicit | PublicKey::Ed448 | PublicKey::Dsa | PublicKey::Other(_) => {
            true
        }
    }
}

/// Looks at the public key of every certificate on the path, the root's too: its signature is made with it.
pub(super) fn check(view: &View<'_>, found: &mut Found) {
    for certificate in view.members().skip(1).filter(|issuer| cannot_vouch(&issuer.key)) {
        let seen =
            format!("its key is {}, which clients do not verify the certificate before it with", certificate.key);
        found.at(RuleId::IssuerKeyUnsupported, certificate, seen);
    }
    for certificate in view.members() {
        match &certificate.key {
            PublicKey::Rsa { modulus, exponent } | PublicKey::RsaPss { modulus, exponent } => {
                rsa(certificate, modulus, exponent, found);
            }
            PublicKey::Ed25519 | PublicKey::Ed448 | PublicKey::Ec(Curve::P521) | PublicKey::MlDsa(_) => {
                let seen = format!("its key is {}, which browsers do not support", certificate.key);
                found.at(RuleId::KeyNotWeb, certificate, seen);
            }
            _ => {}
        }
    }
}

/// Whether no common client verifies signatures of such a key in a certificate.
fn cannot_vouch(key: &PublicKey) -> bool {
    match key {
        PublicKey::Ec(curve) => matches!(curve, Curve::Other(_)),
        PublicKey::EcExplicit | PublicKey::Ed448 | PublicKey::Dsa | PublicKey::Other(_) => true,
        PublicKey::Rsa { .. } | PublicKey::RsaPss { .. } | PublicKey::Ed25519 | PublicKey::MlDsa(_) => false,
    }
}

fn rsa(certificate: &Certificate, modulus: &BigUint, exponent: &BigUint, found: &mut Found) {
    let bits = modulus.bits();
    if bits < 2048 {
        found.at(RuleId::KeyRsaSmall, certificate, format!("its RSA key has {bits} bits"));
    }
    let one = BigUint::from(1u8);
    if *exponent <= one || !exponent.bit(0) {
        let seen = format!("its RSA key has the exponent {}", shown(exponent));
        found.raised(RuleId::KeyRsaOdd, Level::Deny, certificate, seen);
    } else if *exponent < BigUint::from(65_537u32) {
        found.at(RuleId::KeyRsaOdd, certificate, format!("its RSA key has the exponent {}", shown(exponent)));
    }
    if !modulus.bit(0) {
        found.raised(RuleId::KeyRsaOdd, Level::Deny, certificate, "its RSA key has an even modulus".to_owned());
    }
    if bits > 2048 && !bits.is_multiple_of(8) {
        found.at(RuleId::KeyRsaOdd, certificate, format!("its RSA key has {bits} bits, no whole number of octets"));
    }
    if bits > 4096 {
        found.at(RuleId::KeyRsaOdd, certificate, format!("its RSA key has {bits} bits"));
    }
}

fn shown(exponent: &BigUint) -> String {
    if exponent.bits() <= 64 { exponent.to_string() } else { format!("of {} bits", exponent.bits()) }
}
