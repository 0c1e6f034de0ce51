//! Password-based encryption and authentication, as PKCS#12 bundles use it: PBES2 and PBMAC1 (RFC 8018, RFC 9579), and
//! the older schemes of RFC 7292, appendix B and C, which are still written by default in many places.
//!
//! `pkcs12` calls this. AES and PBKDF2 are the provider's; the old block ciphers are here only to open old files.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use des::cipher::{Array, BlockCipherDecrypt, BlockSizeUser, KeyInit, consts::U8};
use des::{TdesEde2, TdesEde3};
use rc2::Rc2;
use subtle::ConstantTimeEq;

use super::Mac;
use crate::tls::der;
use crate::tls::key::Hash;

/// Why something does not open.
pub(super) enum Fault {
    Password,
    Unsupported(String),
    Malformed,
}

/// How many iterations are computed for one bundle at most: a few seconds of work.
const MAX_ITERATIONS: u32 = 5_000_000;

/// The iterations that are left.
pub(super) struct Budget(u32);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_ITERATIONS)
    }
}

impl Budget {
    fn spend(&mut self, iterations: u32) -> Result<(), Fault> {
        let too_many = || Fault::Unsupported(format!("{iterations} iterations"));
        self.0 = self.0.checked_sub(iterations.max(1)).ok_or_else(too_many)?;
        Ok(())
    }
}

/// A password, as both generations of schemes take it.
pub(super) struct Password {
    utf8: Vec<u8>,
    /// UTF-16, big-endian, with a closing zero (RFC 7292, appendix B.1).
    utf16: Vec<u8>,
}

/// What was encrypted, and how.
pub(super) struct Opened {
    pub(super) content: Vec<u8>,
    /// The cipher's name, if it is a weak one.
    pub(super) weak: Option<&'static str>,
    pub(super) iterations: u32,
}

impl Password {
    pub(super) fn new(text: &str) -> Self {
        let utf16 = text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
        Self { utf8: text.as_bytes().to_vec(), utf16 }
    }

    /// The forms for the older schemes: an empty password is two zero octets, or in some places nothing at all.
    fn older(&self) -> impl Iterator<Item = &[u8]> {
        let nothing = self.utf8.is_empty().then_some(&[][..]);
        std::iter::once(&self.utf16[..]).chain(nothing)
    }

    /// Checks a MAC; says its name and hash.
    pub(super) fn verify(&self, mac: &Mac<'_>, content: &[u8], budget: &mut Budget) -> Result<(String, Hash), Fault> {
        let (oid, parameters) = der::take(der::OID, mac.algorithm).ok_or(Fault::Malformed)?;
        let oid = der::dotted(oid);
        if oid == PBMAC1 {
            let (kdf, scheme) = two_algorithms(parameters).ok_or(Fault::Malformed)?;
            let kdf = Pbkdf2::read(kdf)?;
            let hash = der::take(der::OID, scheme)
                .and_then(|(oid, _)| hmac_hash(&der::dotted(oid)))
                .ok_or(Fault::Malformed)?;
            budget.spend(kdf.iterations)?;
            let key = kdf.derive(&self.utf8, kdf.length.ok_or(Fault::Malformed)?)?;
            return confirmed(&[hmac(hash, &key, content)?], mac, hash);
        }
        let hash = Hash::by_oid(&oid);
        let block = block_of(hash).ok_or_else(|| Fault::Unsupported(format!("a MAC by {oid}")))?;
        budget.spend(mac.iterations.saturating_mul(2))?;
        let mut found = Vec::new();
        for password in self.older() {
            let length = hash.digest(&[]).ok_or(Fault::Malformed)?.len();
            let key = derive(hash, block, 3, password, mac.salt, mac.iterations, length).ok_or(Fault::Malformed)?;
            found.push(hmac(hash, &key, content)?);
        }
        confirmed(&found, mac, hash)
    }

    /// Decrypts by an AlgorithmIdentifier's content.
    pub(super) fn decrypt(&self, algorithm: &[u8], encrypted: &[u8], budget: &mut Budget) -> Result<Opened, Fault> {
        let (oid, parameters) = der::take(der::OID, algorithm).ok_or(Fault::Malformed)?;
        let oid = der::dotted(oid);
        if oid == PBES2 {
            return self.pbes2(parameters, encrypted, budget);
        }
        let scheme = OLDER.iter().find(|scheme| scheme.0 == oid).ok_or(Fault::Unsupported(oid))?;
        let (parameters, _) = der::take(der::SEQUENCE, parameters).ok_or(Fault::Malformed)?;
        let (salt, rest) = der::take(der::OCTET_STRING, parameters).ok_or(Fault::Malformed)?;
        let iterations =
            der::take(der::INTEGER, rest).and_then(|(content, _)| number(content)).ok_or(Fault::Malformed)?;
        budget.spend(iterations.saturating_mul(4))?;
        for password in self.older() {
            let key = derive(Hash::Sha1, 64, 1, password, salt, iterations, scheme.2).ok_or(Fault::Malformed)?;
            let iv = derive(Hash::Sha1, 64, 2, password, salt, iterations, 8).ok_or(Fault::Malformed)?;
            if let Some(content) = (scheme.3)(&key, &iv, encrypted) {
                return Ok(Opened { content, weak: Some(scheme.1), iterations });
            }
        }
        Err(Fault::Password)
    }

    /// PBES2 (RFC 8018, section 6.2).
    fn pbes2(&self, parameters: &[u8], encrypted: &[u8], budget: &mut Budget) -> Result<Opened, Fault> {
        let (kdf, scheme) = two_algorithms(parameters).ok_or(Fault::Malformed)?;
        let kdf = Pbkdf2::read(kdf)?;
        let (oid, iv) = der::take(der::OID, scheme).ok_or(Fault::Malformed)?;
        let iv = der::take(der::OCTET_STRING, iv).ok_or(Fault::Malformed)?.0;
        budget.spend(kdf.iterations)?;
        let iterations = kdf.iterations;
        let aes = |algorithm, length| {
            let key = kdf.derive(&self.utf8, length)?;
            let content = aes_cbc(algorithm, &key, iv, encrypted)?;
            Ok(Opened { content, weak: None, iterations })
        };
        match der::dotted(oid).as_str() {
            "2.16.840.1.101.3.4.1.2" => aes(&AES_128, 16),
            "2.16.840.1.101.3.4.1.22" => aes(&AES_192, 24),
            "2.16.840.1.101.3.4.1.42" => aes(&AES_256, 32),
            "1.2.840.113549.3.7" => {
                let key = kdf.derive(&self.utf8, 24)?;
                let content = tdes3(&key, iv, encrypted).ok_or(Fault::Password)?;
                Ok(Opened { content, weak: Some("DES-EDE3-CBC"), iterations })
            }
            other => Err(Fault::Unsupported(format!("the cipher {other}"))),
        }
    }
}

/// A scheme of RFC 7292, appendix C: its identifier, name, the key's length in octets, and how it decrypts.
type Older = (&'static str, &'static str, usize, fn(&[u8], &[u8], &[u8]) -> Option<Vec<u8>>);

const OLDER: &[Older] = &[
    ("1.2.840.113549.1.12.1.3", "PBE-SHA1-3DES", 24, tdes3),
    ("1.2.840.113549.1.12.1.4", "PBE-SHA1-2DES", 16, |key, iv, data| {
        cbc(&TdesEde2::new_from_slice(key).ok()?, iv, data)
    }),
    ("1.2.840.113549.1.12.1.5", "PBE-SHA1-RC2-128", 16, |key, iv, data| {
        cbc(&Rc2::new_with_eff_key_len(key, 128), iv, data)
    }),
    ("1.2.840.113549.1.12.1.6", "PBE-SHA1-RC2-40", 5, |key, iv, data| {
        cbc(&Rc2::new_with_eff_key_len(key, 40), iv, data)
    }),
];

const PBES2: &str = "1.2.840.113549.1.5.13";
const PBMAC1: &str = "1.2.840.113549.1.5.14";
const PBKDF2: &str = "1.2.840.113549.1.5.12";

/// The contents of two AlgorithmIdentifiers in a SEQUENCE.
fn two_algorithms(parameters: &[u8]) -> Option<(&[u8], &[u8])> {
    let (both, _) = der::take(der::SEQUENCE, parameters)?;
    let (first, rest) = der::take(der::SEQUENCE, both)?;
    Some((first, der::take(der::SEQUENCE, rest)?.0))
}

/// PBKDF2's parameters (RFC 8018, appendix A.2).
struct Pbkdf2<'a> {
    salt: &'a [u8],
    iterations: u32,
    length: Option<usize>,
    prf: pbkdf2::Algorithm,
}

impl<'a> Pbkdf2<'a> {
    fn read(algorithm: &'a [u8]) -> Result<Self, Fault> {
        let (oid, parameters) = der::take(der::OID, algorithm).ok_or(Fault::Malformed)?;
        if der::dotted(oid) != PBKDF2 {
            return Err(Fault::Unsupported(format!("the key derivation {}", der::dotted(oid))));
        }
        let (parameters, _) = der::take(der::SEQUENCE, parameters).ok_or(Fault::Malformed)?;
        let (salt, rest) = der::take(der::OCTET_STRING, parameters).ok_or(Fault::Malformed)?;
        let (iterations, mut rest) = der::take(der::INTEGER, rest).ok_or(Fault::Malformed)?;
        let iterations = number(iterations).ok_or(Fault::Malformed)?;
        let mut length = None;
        if let Some((octets, after)) = der::take(der::INTEGER, rest) {
            length = number(octets).and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= 64);
            rest = after;
        }
        let hash = match der::take(der::SEQUENCE, rest).and_then(|(prf, _)| der::take(der::OID, prf)) {
            None => Some(Hash::Sha1),
            Some((oid, _)) => hmac_hash(&der::dotted(oid)),
        };
        let prf = match hash {
            Some(Hash::Sha1) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some(Hash::Sha256) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some(Hash::Sha384) => pbkdf2::PBKDF2_HMAC_SHA384,
            Some(Hash::Sha512) => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(Fault::Unsupported("an unusual key derivation".into())),
        };
        Ok(Self { salt, iterations, length, prf })
    }

    fn derive(&self, password: &[u8], length: usize) -> Result<Vec<u8>, Fault> {
        let mut key = vec![0; length];
        let iterations = NonZeroU32::new(self.iterations).ok_or(Fault::Malformed)?;
        pbkdf2::derive(self.prf, iterations, self.salt, password, &mut key);
        Ok(key)
    }
}

fn hmac_hash(oid: &str) -> Option<Hash> {
    Some(match oid {
        "1.2.840.113549.2.7" => Hash::Sha1,
        "1.2.840.113549.2.9" => Hash::Sha256,
        "1.2.840.113549.2.10" => Hash::Sha384,
        "1.2.840.113549.2.11" => Hash::Sha512,
        _ => return None,
    })
}

/// A small number that is not negative.
pub(super) fn number(content: &[u8]) -> Option<u32> {
    let octets = content.strip_prefix(&[0]).unwrap_or(content);
    (octets.len() <= 4).then(|| octets.iter().fold(0, |n, octet| n << 8 | u32::from(*octet)))
}

fn confirmed(found: &[Vec<u8>], mac: &Mac<'_>, hash: Hash) -> Result<(String, Hash), Fault> {
    let same = found.iter().any(|found| bool::from(found.as_slice().ct_eq(mac.digest)));
    if same { Ok((format!("HMAC-{}", hash.name()), hash)) } else { Err(Fault::Password) }
}

/// HMAC (RFC 2104), over hashes that the provider's own no longer takes as well.
fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Result<Vec<u8>, Fault> {
    let block = block_of(hash).ok_or(Fault::Malformed)?;
    let mut padded = if key.len() > block { hash.digest(key).ok_or(Fault::Malformed)? } else { key.to_vec() };
    padded.resize(block, 0);
    let pad = |byte: u8| padded.iter().map(|key| key ^ byte).collect::<Vec<u8>>();
    let inner = hash.digest(&[&pad(0x36), message].concat()).ok_or(Fault::Malformed)?;
    hash.digest(&[pad(0x5c), inner].concat()).ok_or(Fault::Malformed)
}

/// The octets that a hash takes at a time.
fn block_of(hash: Hash) -> Option<usize> {
    match hash {
        Hash::Md5 | Hash::Sha1 | Hash::Sha224 | Hash::Sha256 => Some(64),
        Hash::Sha384 | Hash::Sha512 | Hash::Sha512_256 => Some(128),
        _ => None,
    }
}

/// The key derivation of RFC 7292, appendix B.2. `id`: 1 for a key, 2 for an initialization vector, 3 for a MAC's key.
fn derive(
    hash: Hash,
    block: usize,
    id: u8,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Option<Vec<u8>> {
    let fill = |text: &[u8]| {
        let filled = text.len().div_ceil(block) * block;
        text.iter().copied().cycle().take(filled).collect::<Vec<u8>>()
    };
    let mut input = [fill(salt), fill(password)].concat();
    let mut out = Vec::new();
    while out.len() < length {
        let mut a = hash.digest(&[&vec![id; block][..], &input].concat())?;
        for _ in 1..iterations {
            a = hash.digest(&a)?;
        }
        for part in input.chunks_mut(block) {
            add(part, &a);
        }
        out.extend(a);
    }
    out.truncate(length);
    Some(out)
}

/// Adds to a big-endian number another, repeated to its length, and one.
fn add(number: &mut [u8], other: &[u8]) {
    let mut carry = 1;
    let other: Vec<u8> = other.iter().copied().cycle().take(number.len()).collect();
    for (octet, more) in number.iter_mut().zip(other).rev() {
        let sum = u16::from(*octet) + u16::from(more) + carry;
        *octet = u8::try_from(sum & 0xff).unwrap_or_default();
        carry = sum >> 8;
    }
}

fn aes_cbc(algorithm: &'static Algorithm, key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>, Fault> {
    let iv = DecryptionContext::Iv128(FixedLength::from(<[u8; 16]>::try_from(iv).map_err(|_| Fault::Malformed)?));
    let key = UnboundCipherKey::new(algorithm, key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
    let mut data = data.to_vec();
    // What does not unpad was decrypted with another key.
    Ok(key.map_err(|_| Fault::Malformed)?.decrypt(&mut data, iv).map_err(|_| Fault::Password)?.to_vec())
}

fn tdes3(key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    cbc(&TdesEde3::new_from_slice(key).ok()?, iv, data)
}

/// Cipher block chaining with the padding of PKCS#7; `None` where it does not unpad.
fn cbc<C: BlockCipherDecrypt + BlockSizeUser<BlockSize = U8>>(cipher: &C, iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let mut before = <[u8; 8]>::try_from(iv).ok()?;
    let mut out = Vec::with_capacity(data.len());
    for block in data.chunks(8) {
        let sealed = <[u8; 8]>::try_from(block).ok()?;
        let mut opened = Array(sealed);
        cipher.decrypt_block(&mut opened);
        out.extend(opened.iter().zip(before).map(|(octet, before)| octet ^ before));
        before = sealed;
    }
    let padding = usize::from(*out.last()?);
    let rest = out.len().checked_sub(padding).filter(|_| (1..=8).contains(&padding))?;
    let good = out[rest..].iter().all(|octet| usize::from(*octet) == padding);
    out.truncate(rest);
    good.then_some(out)
}
