//! Computes whether one certificate signed another, whatever the algorithm's age.
//!
//! The provider's own algorithms come first, since they are what rustls clients use. What no TLS library computes any
//! more (MD5, SHA-1, short RSA keys, odd PSS) is computed here, so that a certificate is placed in the path by its
//! signature and reported for what it is. Nothing here decides whom to trust. `path` calls this.

use aws_lc_rs::{digest, signature as ec};
use num_bigint::BigUint;
use rustls::crypto::aws_lc_rs::default_provider;

use crate::tls::certificate::{Certificate, Raw};
use crate::tls::key::{Curve, Hash, PublicKey, Scheme, SignatureAlgorithm};

/// The longest RSA modulus that is computed with, in bits: a hostile file must not keep the gateway busy.
const MAX_RSA_BITS: u64 = 16_384;
/// The longest RSA exponent, for the same reason.
const MAX_EXPONENT_BITS: u64 = 64;

/// What the computation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    /// The issuer's key made this signature.
    Yes,
    /// It did not.
    No,
    /// The algorithm cannot be computed.
    Unknown,
}

/// What was signed, and the signature.
pub(super) struct Message<'a> {
    /// Byte for byte.
    pub(super) content: &'a [u8],
    /// The algorithm's identifier, without its SEQUENCE header.
    pub(super) algorithm: &'a [u8],
    /// What it says.
    pub(super) scheme: &'a SignatureAlgorithm,
    pub(super) signature: &'a [u8],
}

/// Whether `issuer`'s key made the signature on `certificate`.
pub(super) fn signed_by(certificate: &Certificate, issuer: &Certificate) -> Signed {
    let Raw { tbs, algorithm, signature, .. } = &certificate.raw;
    verifies(&Message { content: tbs, algorithm, scheme: &certificate.signature, signature }, issuer)
}

/// Whether `issuer`'s key made the signature on `message`.
pub(super) fn verifies(message: &Message<'_>, issuer: &Certificate) -> Signed {
    let known = match by_provider(message.algorithm, issuer, message.content, message.signature) {
        Some(true) => return Signed::Yes,
        known => known.is_some(),
    };
    let hash = message.scheme.hash;
    match (&message.scheme.scheme, &issuer.key, hash) {
        (Scheme::Pkcs1, PublicKey::Rsa { modulus, exponent }, Some(hash)) => {
            rsa(modulus, exponent, message.signature, |encoded| pkcs1(encoded, hash, message.content))
        }
        (
            Scheme::Pss { mask, salt, trailer: 1 },
            PublicKey::Rsa { modulus, exponent } | PublicKey::RsaPss { modulus, exponent },
            Some(hash),
        ) => {
            let bits = modulus.bits();
            rsa(modulus, exponent, message.signature, |encoded| pss(encoded, bits, hash, *mask, *salt, message.content))
        }
        (Scheme::Ecdsa, PublicKey::Ec(curve), Some(hash)) if !known => ecdsa(curve, hash, message, issuer),
        (Scheme::Ecdsa, PublicKey::EcExplicit, _) => Signed::Unknown,
        (Scheme::Pkcs1 | Scheme::Pss { .. }, PublicKey::Rsa { .. } | PublicKey::RsaPss { .. }, _) if !known => {
            Signed::Unknown
        }
        (Scheme::Other | Scheme::Ed448, ..) if !known => Signed::Unknown,
        // Either it was computed above, or the key is of another kind than the signature.
        _ => Signed::No,
    }
}

/// Whether `signer`'s key made a signature on `message`, by what rustls clients compute; `None` for what they do not.
pub(super) fn by_provider(algorithm: &[u8], signer: &Certificate, message: &[u8], signature: &[u8]) -> Option<bool> {
    let key = &signer.raw;
    let all = default_provider().signature_verification_algorithms.all.iter();
    let fitting = all.filter(|known| {
        known.signature_alg_id().as_ref() == algorithm && known.public_key_alg_id().as_ref() == key.key_algorithm
    });
    let mut verified =
        fitting.map(|known| known.verify_signature(&key.key_bits, message, signature).is_ok()).peekable();
    verified.peek().is_some().then(|| verified.any(|verified| verified))
}

/// Opens an RSA signature and lets `check` compare what is in it.
fn rsa(n: &BigUint, e: &BigUint, signature: &[u8], check: impl Fn(&[u8]) -> Option<bool>) -> Signed {
    if n.bits() > MAX_RSA_BITS || n.bits() < 256 || e.bits() > MAX_EXPONENT_BITS {
        return Signed::Unknown;
    }
    let length = usize::try_from(n.bits().div_ceil(8)).unwrap_or(usize::MAX);
    let signature_number = BigUint::from_bytes_be(signature);
    if signature.len() != length || signature_number >= *n {
        return Signed::No;
    }
    let opened = signature_number.modpow(e, n).to_bytes_be();
    let mut encoded = vec![0; length.saturating_sub(opened.len())];
    encoded.extend(opened);
    match check(&encoded) {
        Some(true) => Signed::Yes,
        Some(false) => Signed::No,
        None => Signed::Unknown,
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017, section 9.2); `None` where the hash cannot be computed.
fn pkcs1(encoded: &[u8], hash: Hash, message: &[u8]) -> Option<bool> {
    let digest = hash.digest(message)?;
    let oid: &[u8] = match hash {
        Hash::Md5 => &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05],
        Hash::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
        Hash::Sha256 => &NIST_HASH[..].with(1),
        Hash::Sha384 => &NIST_HASH[..].with(2),
        Hash::Sha512 => &NIST_HASH[..].with(3),
        Hash::Sha224 => &NIST_HASH[..].with(4),
        Hash::Sha512_256 => &NIST_HASH[..].with(6),
        Hash::Sha3_256 => &NIST_HASH[..].with(8),
        Hash::Sha3_384 => &NIST_HASH[..].with(9),
        Hash::Sha3_512 => &NIST_HASH[..].with(10),
        _ => return None,
    };
    Some([true, false].iter().any(|null| encoded == pkcs1_encoding(encoded.len(), oid, &digest, *null)))
}

/// 2.16.840.1.101.3.4.2, where NIST's hashes are.
const NIST_HASH: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// Adds the last arc to an object identifier.
trait With {
    fn with(&self, arc: u8) -> [u8; 9];
}

impl With for [u8] {
    fn with(&self, arc: u8) -> [u8; 9] {
        let mut oid = [arc; 9];
        oid[..8].copy_from_slice(&self[..8]);
        oid
    }
}

/// The one encoding that a signature may hold, with the hash's NULL parameters or without.
fn pkcs1_encoding(length: usize, oid: &[u8], digest: &[u8], null: bool) -> Vec<u8> {
    let element = |tag: u8, content: &[u8]| {
        let mut out = vec![tag, u8::try_from(content.len()).unwrap_or(u8::MAX)];
        out.extend_from_slice(content);
        out
    };
    let mut algorithm = element(6, oid);
    if null {
        algorithm.extend([5, 0]);
    }
    let mut info = element(0x30, &algorithm);
    info.extend(element(4, digest));
    let info = element(0x30, &info);
    let mut encoded = vec![0, 1];
    encoded.resize(length.saturating_sub(info.len() + 1), 0xff);
    encoded.push(0);
    encoded.extend(info);
    encoded
}

/// EMSA-PSS verification (RFC 8017, section 9.1.2); `None` where a hash cannot be computed.
fn pss(encoded: &[u8], bits: u64, hash: Hash, mask: Hash, salt: u32, message: &[u8]) -> Option<bool> {
    let digest = hash.digest(message)?;
    let unused = usize::try_from((8 - (bits - 1) % 8) % 8).ok()?;
    // Where the modulus is one bit longer than whole octets, the encoding is one octet shorter.
    let encoded = if unused == 0 { encoded.split_first().filter(|(first, _)| **first == 0)?.1 } else { encoded };
    let salt = usize::try_from(salt).ok()?;
    let Some((database, h)) = (encoded.len() > digest.len() + 1 && encoded.last() == Some(&0xbc))
        .then(|| encoded[..encoded.len() - 1].split_at(encoded.len() - 1 - digest.len()))
    else {
        return Some(false);
    };
    let mut database: Vec<u8> =
        database.iter().zip(mgf1(mask, h, database.len())?).map(|(masked, mask)| masked ^ mask).collect();
    if let Some(first) = database.first_mut() {
        *first &= 0xff >> unused;
    }
    let Some(padding) = database.len().checked_sub(salt + 1) else { return Some(false) };
    let padded = database[..padding].iter().all(|octet| *octet == 0) && database[padding] == 1;
    let mut hashed = vec![0; 8];
    hashed.extend(&digest);
    hashed.extend(&database[padding + 1..]);
    Some(padded && hash.digest(&hashed)? == h)
}

/// MGF1 (RFC 8017, appendix B.2.1).
fn mgf1(hash: Hash, seed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length + 64);
    for counter in 0u32.. {
        if out.len() >= length {
            break;
        }
        let mut input = seed.to_vec();
        input.extend(counter.to_be_bytes());
        out.extend(hash.digest(&input)?);
    }
    out.truncate(length);
    Some(out)
}

/// ECDSA over any hash. The number that is signed is the digest's leftmost octets, at most as many as the curve has
/// (FIPS 186-5, section 6.4.2), so any digest can be given in the shape of the hash that the library pairs the curve
/// with: cut, or with zeros before it.
fn ecdsa(curve: &Curve, hash: Hash, message: &Message<'_>, issuer: &Certificate) -> Signed {
    let (algorithm, shape) = match curve {
        Curve::P256 => (&ec::ECDSA_P256_SHA256_ASN1, &digest::SHA256),
        Curve::P384 => (&ec::ECDSA_P384_SHA384_ASN1, &digest::SHA384),
        Curve::P521 => (&ec::ECDSA_P521_SHA512_ASN1, &digest::SHA512),
        Curve::Other(name) if name == "secp256k1" => (&ec::ECDSA_P256K1_SHA256_ASN1, &digest::SHA256),
        Curve::Other(_) => return Signed::Unknown,
    };
    let Some(digest) = hash.digest(message.content) else { return Signed::Unknown };
    let length = shape.output_len();
    let mut shaped = vec![0; length.saturating_sub(digest.len())];
    shaped.extend(&digest[..digest.len().min(length)]);
    let Ok(shaped) = digest::Digest::import_less_safe(&shaped, shape) else { return Signed::Unknown };
    let key = ec::UnparsedPublicKey::new(algorithm, &issuer.raw.key_bits);
    match key.verify_digest(&shaped, message.signature) {
        Ok(()) => Signed::Yes,
        Err(_) => Signed::No,
    }
}

#[cfg(test)]
mod tests {
    use super::{Signed, signed_by};
    use crate::tls::audit::tests::material;

    #[test]
    fn a_signature_by_a_key_with_explicit_parameters_cannot_be_computed() {
        let [signed, explicit] = ["localhost", "key-explicit"].map(|name| material(name).certificates.remove(0));
        assert_eq!(signed_by(&signed, &explicit), Signed::Unknown);
    }

    #[test]
    fn signatures_of_every_age_verify_under_the_issuer_that_made_them_and_no_other() {
        let stranger = material("rsa-e3");
        for name in [
            "localhost",
            "localhost-rsa",
            "pss",
            "md5",
            "sha1",
            "sha1-pss",
            "sha1-ecdsa",
            "sha224",
            "sha3",
            "pss-salt",
            "pss-mask",
            "rsa1024-intermediate",
            "md5-intermediate",
        ] {
            let chain = material(name).certificates;
            assert_eq!(signed_by(&chain[0], &chain[1]), Signed::Yes, "{name}");
            let mut tampered = chain[0].clone();
            tampered.raw.tbs[40] ^= 1;
            assert_eq!(signed_by(&tampered, &chain[1]), Signed::No, "{name}, tampered with");
            assert_eq!(signed_by(&chain[0], &stranger.certificates[0]), Signed::No, "{name}, under a stranger's key");
        }
    }
}
