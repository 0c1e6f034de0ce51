//! Public keys and signature algorithms, as certificates name them.
//!
//! Owns the table of algorithm identifiers. `certificate` reads with it; `audit/key` and `audit/signature` judge.

use std::fmt;

use aws_lc_rs::digest;
use md5::{Digest as _, Md5};
use num_bigint::BigUint;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use crate::tls::der;

/// A certificate's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA.
    Rsa {
        /// n.
        modulus: BigUint,
        /// e.
        exponent: BigUint,
    },
    /// RSA that may only be used with PSS (RFC 4055, section 3.1).
    RsaPss {
        /// n.
        modulus: BigUint,
        /// e.
        exponent: BigUint,
    },
    /// An elliptic curve by name.
    Ec(Curve),
    /// An elliptic curve by its parameters, which certificates must not carry (RFC 5480, section 2.1.1).
    EcExplicit,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// Ed448 (RFC 8410).
    Ed448,
    /// DSA.
    Dsa,
    /// ML-DSA (FIPS 204).
    MlDsa(&'static str),
    /// Any other, by its object identifier; also what could not be read.
    Other(String),
}

/// A named curve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Any other, by name or object identifier.
    Other(String),
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    pub(super) fn read(spki: &[u8]) -> Option<Self> {
        let (content, _) = der::take(der::SEQUENCE, spki)?;
        let (algorithm, rest) = der::take(der::SEQUENCE, content)?;
        let (oid, parameters) = der::take(der::OID, algorithm)?;
        Some(match der::dotted(oid).as_str() {
            "1.2.840.113549.1.1.1" => rsa(der::bits(rest)?)?,
            "1.2.840.113549.1.1.10" => match rsa(der::bits(rest)?)? {
                Self::Rsa { modulus, exponent } => Self::RsaPss { modulus, exponent },
                other => other,
            },
            "1.2.840.10045.2.1" => match der::take(der::OID, parameters) {
                Some((curve, _)) => Self::Ec(curve_name(&der::dotted(curve))),
                None => Self::EcExplicit,
            },
            "1.3.101.112" => Self::Ed25519,
            "1.3.101.113" => Self::Ed448,
            "1.2.840.10040.4.1" => Self::Dsa,
            "2.16.840.1.101.3.4.3.17" => Self::MlDsa("ML-DSA-44"),
            "2.16.840.1.101.3.4.3.18" => Self::MlDsa("ML-DSA-65"),
            "2.16.840.1.101.3.4.3.19" => Self::MlDsa("ML-DSA-87"),
            other => Self::Other(other.to_owned()),
        })
    }

    /// The length of an RSA modulus in bits; 0 for other keys.
    #[must_use]
    pub fn rsa_bits(&self) -> u64 {
        match self {
            Self::Rsa { modulus, .. } | Self::RsaPss { modulus, .. } => modulus.bits(),
            _ => 0,
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { modulus, .. } => write!(f, "RSA {}", modulus.bits()),
            Self::RsaPss { modulus, .. } => write!(f, "RSA-PSS {}", modulus.bits()),
            Self::Ec(Curve::P256) => f.write_str("ECDSA P-256"),
            Self::Ec(Curve::P384) => f.write_str("ECDSA P-384"),
            Self::Ec(Curve::P521) => f.write_str("ECDSA P-521"),
            Self::Ec(Curve::Other(name)) => write!(f, "ECDSA {name}"),
            Self::EcExplicit => f.write_str("ECDSA with explicit curve parameters"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Ed448 => f.write_str("Ed448"),
            Self::Dsa => f.write_str("DSA"),
            Self::MlDsa(name) => f.write_str(name),
            Self::Other(oid) => write!(f, "algorithm {oid}"),
        }
    }
}

fn rsa(key: &[u8]) -> Option<PublicKey> {
    let (content, _) = der::take(der::SEQUENCE, key)?;
    let (modulus, rest) = der::take(der::INTEGER, content)?;
    let (exponent, _) = der::take(der::INTEGER, rest)?;
    Some(PublicKey::Rsa { modulus: BigUint::from_bytes_be(modulus), exponent: BigUint::from_bytes_be(exponent) })
}

fn curve_name(oid: &str) -> Curve {
    match oid {
        "1.2.840.10045.3.1.7" => Curve::P256,
        "1.3.132.0.34" => Curve::P384,
        "1.3.132.0.35" => Curve::P521,
        "1.3.132.0.33" => Curve::Other("P-224".into()),
        "1.2.840.10045.3.1.1" => Curve::Other("P-192".into()),
        "1.3.132.0.10" => Curve::Other("secp256k1".into()),
        "1.3.36.3.3.2.8.1.1.7" => Curve::Other("brainpoolP256r1".into()),
        "1.3.36.3.3.2.8.1.1.11" => Curve::Other("brainpoolP384r1".into()),
        "1.3.36.3.3.2.8.1.1.13" => Curve::Other("brainpoolP512r1".into()),
        "1.2.156.10197.1.301" => Curve::Other("SM2".into()),
        other => Curve::Other(other.to_owned()),
    }
}

/// A hash function inside a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Hash {
    Md2,
    Md4,
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_256,
    Sha3_256,
    Sha3_384,
    Sha3_512,
    /// One that this table does not know.
    Other,
}

impl Hash {
    /// The name as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Md2 => "MD2",
            Self::Md4 => "MD4",
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
            Self::Sha512_256 => "SHA-512/256",
            Self::Sha3_256 => "SHA3-256",
            Self::Sha3_384 => "SHA3-384",
            Self::Sha3_512 => "SHA3-512",
            Self::Other => "an unknown hash",
        }
    }

    /// Whether it is MD5 or older.
    #[must_use]
    pub fn is_md(self) -> bool {
        matches!(self, Self::Md2 | Self::Md4 | Self::Md5)
    }

    /// The output's length in octets, where TLS has a PSS scheme for the hash (RFC 8446, section 4.2.3).
    fn pss_salt(self) -> Option<u32> {
        match self {
            Self::Sha256 => Some(32),
            Self::Sha384 => Some(48),
            Self::Sha512 => Some(64),
            _ => None,
        }
    }

    /// The digest; `None` for a hash that nothing here computes.
    pub(super) fn digest(self, message: &[u8]) -> Option<Vec<u8>> {
        let algorithm = match self {
            Self::Md5 => return Some(Md5::digest(message).to_vec()),
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
            Self::Sha512_256 => &digest::SHA512_256,
            Self::Sha3_256 => &digest::SHA3_256,
            Self::Sha3_384 => &digest::SHA3_384,
            Self::Sha3_512 => &digest::SHA3_512,
            Self::Md2 | Self::Md4 | Self::Other => return None,
        };
        Some(digest::digest(algorithm, message).as_ref().to_vec())
    }

    pub(super) fn by_oid(oid: &str) -> Self {
        match oid {
            "1.2.840.113549.2.2" => Self::Md2,
            "1.2.840.113549.2.4" => Self::Md4,
            "1.2.840.113549.2.5" => Self::Md5,
            "1.3.14.3.2.26" => Self::Sha1,
            "2.16.840.1.101.3.4.2.4" => Self::Sha224,
            "2.16.840.1.101.3.4.2.1" => Self::Sha256,
            "2.16.840.1.101.3.4.2.2" => Self::Sha384,
            "2.16.840.1.101.3.4.2.3" => Self::Sha512,
            "2.16.840.1.101.3.4.2.6" => Self::Sha512_256,
            "2.16.840.1.101.3.4.2.8" => Self::Sha3_256,
            "2.16.840.1.101.3.4.2.9" => Self::Sha3_384,
            "2.16.840.1.101.3.4.2.10" => Self::Sha3_512,
            _ => Self::Other,
        }
    }
}

/// How a certificate is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureAlgorithm {
    /// The name as OpenSSL writes it, or the object identifier.
    pub name: String,
    /// The kind of signature.
    pub scheme: Scheme,
    /// The hash of what is signed; `None` where the scheme fixes it.
    pub hash: Option<Hash>,
}

/// The kind of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS (RFC 4055, section 3.1), with what its parameters say.
    Pss {
        /// The hash of the mask generation function.
        mask: Hash,
        /// The salt's length in octets.
        salt: u32,
        /// The trailer field; 1 is the only one in use.
        trailer: u32,
    },
    /// ECDSA.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// Ed448.
    Ed448,
    /// One that TLS has no name for.
    Other,
}

impl SignatureAlgorithm {
    /// Reads an AlgorithmIdentifier.
    pub(super) fn read(algorithm: &AlgorithmIdentifier<'_>) -> Self {
        let oid = algorithm.algorithm.to_id_string();
        if oid == "1.2.840.113549.1.1.10" {
            return pss(algorithm);
        }
        match KNOWN.iter().find(|(known, ..)| *known == oid) {
            Some((_, name, scheme, hash)) => Self { name: (*name).into(), scheme: scheme.clone(), hash: *hash },
            None => Self { name: oid, scheme: Scheme::Other, hash: None },
        }
    }

    /// Whether TLS has a signature scheme for it (RFC 8446, section 4.2.3); the broken hashes count as having one,
    /// since rules of their own report them.
    #[must_use]
    pub fn has_tls_scheme(&self) -> bool {
        match (&self.scheme, self.hash) {
            (Scheme::Pkcs1 | Scheme::Ecdsa, Some(hash)) => {
                hash.is_md() || matches!(hash, Hash::Sha1 | Hash::Sha256 | Hash::Sha384 | Hash::Sha512)
            }
            (Scheme::Pss { mask, salt, trailer }, Some(hash)) => {
                let broken = |hash: Hash| hash.is_md() || hash == Hash::Sha1;
                *trailer == 1 && *mask == hash && (broken(hash) || hash.pss_salt() == Some(*salt))
            }
            (Scheme::Ed25519 | Scheme::Ed448, _) => true,
            _ => false,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Reads PSS parameters; what they leave out is SHA-1 and a salt of 20 octets (RFC 4055, section 3.1).
fn pss(algorithm: &AlgorithmIdentifier<'_>) -> SignatureAlgorithm {
    let unreadable =
        |what: &str| SignatureAlgorithm { name: format!("RSASSA-PSS with {what}"), scheme: Scheme::Other, hash: None };
    let (hash, mask, salt, trailer) = match &algorithm.parameters {
        None => (Hash::Sha1, Hash::Sha1, 20, 1),
        Some(any) if any.data.is_empty() => (Hash::Sha1, Hash::Sha1, 20, 1),
        Some(any) => {
            let Ok(parameters) = RsaSsaPssParams::try_from(any) else { return unreadable("unreadable parameters") };
            let Ok(mask) = parameters.mask_gen_algorithm() else { return unreadable("an unreadable mask") };
            let hash = Hash::by_oid(&parameters.hash_algorithm_oid().to_id_string());
            let mask = match mask.mgf.to_id_string().as_str() {
                "1.2.840.113549.1.1.8" => Hash::by_oid(&mask.hash.to_id_string()),
                _ => Hash::Other,
            };
            (hash, mask, parameters.salt_length(), parameters.trailer_field())
        }
    };
    let mut name = format!("RSASSA-PSS with {}", hash.name());
    if mask != hash {
        name.push_str(&format!(", mask {}", mask.name()));
    }
    if hash.pss_salt().is_some_and(|usual| usual != salt) {
        name.push_str(&format!(", salt of {salt} octets"));
    }
    SignatureAlgorithm { name, scheme: Scheme::Pss { mask, salt, trailer }, hash: Some(hash) }
}

/// Signature algorithms: identifier, OpenSSL's name, kind, hash.
const KNOWN: &[(&str, &str, Scheme, Option<Hash>)] = &[
    ("1.2.840.113549.1.1.2", "md2WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Md2)),
    ("1.2.840.113549.1.1.3", "md4WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Md4)),
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Md5)),
    ("1.3.14.3.2.2", "md4WithRSA", Scheme::Pkcs1, Some(Hash::Md4)),
    ("1.3.14.3.2.3", "md5WithRSA", Scheme::Pkcs1, Some(Hash::Md5)),
    ("1.3.14.3.2.29", "sha1WithRSA", Scheme::Pkcs1, Some(Hash::Sha1)),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Sha1)),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Sha224)),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Sha256)),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Sha384)),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Sha512)),
    ("1.2.840.113549.1.1.16", "sha512-256WithRSAEncryption", Scheme::Pkcs1, Some(Hash::Sha512_256)),
    ("2.16.840.1.101.3.4.3.14", "RSA-SHA3-256", Scheme::Pkcs1, Some(Hash::Sha3_256)),
    ("2.16.840.1.101.3.4.3.15", "RSA-SHA3-384", Scheme::Pkcs1, Some(Hash::Sha3_384)),
    ("2.16.840.1.101.3.4.3.16", "RSA-SHA3-512", Scheme::Pkcs1, Some(Hash::Sha3_512)),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1", Scheme::Ecdsa, Some(Hash::Sha1)),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224", Scheme::Ecdsa, Some(Hash::Sha224)),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256", Scheme::Ecdsa, Some(Hash::Sha256)),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384", Scheme::Ecdsa, Some(Hash::Sha384)),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512", Scheme::Ecdsa, Some(Hash::Sha512)),
    ("2.16.840.1.101.3.4.3.10", "ecdsa_with_SHA3-256", Scheme::Ecdsa, Some(Hash::Sha3_256)),
    ("2.16.840.1.101.3.4.3.11", "ecdsa_with_SHA3-384", Scheme::Ecdsa, Some(Hash::Sha3_384)),
    ("2.16.840.1.101.3.4.3.12", "ecdsa_with_SHA3-512", Scheme::Ecdsa, Some(Hash::Sha3_512)),
    ("1.3.101.112", "ED25519", Scheme::Ed25519, None),
    ("1.3.101.113", "ED448", Scheme::Ed448, None),
    ("1.2.840.10040.4.3", "dsaWithSHA1", Scheme::Other, Some(Hash::Sha1)),
    ("2.16.840.1.101.3.4.3.1", "dsa_with_SHA224", Scheme::Other, Some(Hash::Sha224)),
    ("2.16.840.1.101.3.4.3.2", "dsa_with_SHA256", Scheme::Other, Some(Hash::Sha256)),
    ("1.2.156.10197.1.501", "SM2-with-SM3", Scheme::Other, None),
    ("1.2.643.7.1.1.3.2", "GOST R 34.10-2012 with GOST R 34.11-2012 (256 bit)", Scheme::Other, None),
    ("1.2.643.7.1.1.3.3", "GOST R 34.10-2012 with GOST R 34.11-2012 (512 bit)", Scheme::Other, None),
    ("1.2.643.2.2.3", "GOST R 34.11-94 with GOST R 34.10-2001", Scheme::Other, None),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44", Scheme::Other, None),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65", Scheme::Other, None),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87", Scheme::Other, None),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Hash, Scheme, SignatureAlgorithm};
    use x509_parser::prelude::FromDer;
    use x509_parser::x509::AlgorithmIdentifier;

    const PSS: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    const MD5: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05];

    fn pss(parameters: &[u8]) -> SignatureAlgorithm {
        let mut content = PSS.to_vec();
        content.extend(parameters);
        let mut der = vec![0x30, u8::try_from(content.len()).unwrap()];
        der.extend(content);
        SignatureAlgorithm::read(&AlgorithmIdentifier::from_der(&der).unwrap().1)
    }

    #[test]
    fn pss_without_parameters_is_sha1() {
        let bare = Scheme::Pss { mask: Hash::Sha1, salt: 20, trailer: 1 };
        for parameters in [&[][..], &[0x30, 0x00]] {
            let algorithm = pss(parameters);
            assert_eq!((algorithm.hash, &algorithm.scheme), (Some(Hash::Sha1), &bare));
        }
    }

    #[test]
    fn md5_is_found_inside_pss_parameters() {
        let mut parameters = vec![0x30, 14, 0xa0, 12];
        parameters.extend(MD5);
        assert_eq!(pss(&parameters).hash, Some(Hash::Md5));
    }

    #[test]
    fn unreadable_pss_parameters_are_no_algorithm_of_tls() {
        assert!(!pss(&[0x30, 0x02, 0xa0, 0x05]).has_tls_scheme());
    }
}
