//! Opens a PKCS#12 bundle (RFC 7292): the certificates, the private keys, and how well they were kept.
//!
//! `chain` asks for it where the command line's `audit` meets such a file; the gateway itself serves PEM. Ciphers and
//! key derivation are in `cipher`. The bundle is a hostile file until its MAC says otherwise: every length is checked,
//! and the derivation's iterations are bounded over the whole of it.

mod cipher;

use std::collections::BTreeSet;

use self::cipher::{Budget, Fault, Password};
use crate::tls::der;
use crate::tls::key::Hash;

/// What a bundle holds.
#[derive(Default)]
pub(super) struct Bundle {
    /// The certificates, in the bundle's order.
    pub(super) certificates: Vec<Vec<u8>>,
    /// The private keys, as PKCS#8.
    pub(super) keys: Vec<Vec<u8>>,
    /// What is weak about its protection, in words.
    pub(super) weak: BTreeSet<String>,
}

/// Why a bundle does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The password is wrong, or the file was changed.
    Password,
    /// In words that follow the file's name.
    Unreadable(String),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Password => Self::Password,
            Fault::Unsupported(what) => {
                Self::Unreadable(format!("is protected with {what}, which cannot be opened here"))
            }
            Fault::Malformed => Self::malformed("malformed parameters"),
        }
    }
}

impl Refused {
    fn malformed(what: &str) -> Self {
        Self::Unreadable(format!("is a PKCS#12 bundle with {what}"))
    }
}

const DATA: &str = "1.2.840.113549.1.7.1";
const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const X509_CERTIFICATE: &str = "1.2.840.113549.1.9.22.1";
/// The first tags of context-specific elements: constructed and primitive.
const EXPLICIT_0: u8 = 0xa0;
const IMPLICIT_0: u8 = 0x80;
/// Safes within safes.
const MAX_DEPTH: usize = 4;

/// Opens a bundle with one password.
pub(super) fn open(bytes: &[u8], password: &str) -> Result<Bundle, Refused> {
    if bytes.get(1) == Some(&0x80) {
        return Err(Refused::malformed("indefinite lengths (BER); write it anew with openssl pkcs12"));
    }
    let Outline { kind, safe, mac } = outline(bytes).ok_or_else(|| Refused::malformed("a malformed outline"))?;
    match kind.as_str() {
        DATA => {}
        SIGNED_DATA => return Err(Refused::Unreadable("is protected by a signature, not by a password".into())),
        other => return Err(Refused::malformed(&format!("content of the kind {other}"))),
    }
    let mut opener = Opener { password: Password::new(password), budget: Budget::default(), bundle: Bundle::default() };
    match mac {
        Some(mac) => opener.check(safe, mac)?,
        None => _ = opener.bundle.weak.insert("it has no MAC: changes to it go unseen".into()),
    }
    let mut contents = der::take(der::SEQUENCE, safe).ok_or_else(|| Refused::malformed("a malformed safe"))?.0;
    while let Some((content, rest)) = der::take(der::SEQUENCE, contents) {
        opener.content(content)?;
        contents = rest;
    }
    if contents.is_empty() { Ok(opener.bundle) } else { Err(Refused::malformed("a malformed safe")) }
}

struct Outline<'a> {
    /// The kind of its content.
    kind: String,
    safe: &'a [u8],
    mac: Option<&'a [u8]>,
}

fn outline(bytes: &[u8]) -> Option<Outline<'_>> {
    let (pfx, _) = der::take(der::SEQUENCE, bytes)?;
    let (_version, rest) = der::take(der::INTEGER, pfx)?;
    let (content, rest) = der::take(der::SEQUENCE, rest)?;
    let (kind, content) = der::take(der::OID, content)?;
    let content = der::take(EXPLICIT_0, content)?.0;
    let safe = der::take(der::OCTET_STRING, content).map_or(content, |(safe, _)| safe);
    let mac = if rest.is_empty() { None } else { Some(der::take(der::SEQUENCE, rest)?.0) };
    Some(Outline { kind: der::dotted(kind), safe, mac })
}

struct Opener {
    password: Password,
    budget: Budget,
    bundle: Bundle,
}

impl Opener {
    /// Checks the MAC, which tells a wrong password too.
    fn check(&mut self, safe: &[u8], mac: &[u8]) -> Result<(), Refused> {
        let mac = mac_of(mac).ok_or_else(|| Refused::malformed("a malformed MAC"))?;
        let (name, hash) = self.password.verify(&mac, safe, &mut self.budget)?;
        if hash.is_md() || hash == Hash::Sha1 {
            self.bundle.weak.insert(format!("its MAC is {name}"));
        }
        if mac.iterations < FEW {
            self.bundle.weak.insert(format!("its MAC's key is derived in {} iterations", mac.iterations));
        }
        Ok(())
    }

    /// One part of the safe: in plain or encrypted.
    fn content(&mut self, content: &[u8]) -> Result<(), Refused> {
        let malformed = || Refused::malformed("malformed content");
        let (kind, rest) = der::take(der::OID, content).ok_or_else(malformed)?;
        let inner = der::take(EXPLICIT_0, rest).ok_or_else(malformed)?.0;
        match der::dotted(kind).as_str() {
            DATA => self.bags(der::take(der::OCTET_STRING, inner).ok_or_else(malformed)?.0, 0),
            ENCRYPTED_DATA => {
                let (algorithm, encrypted) = encrypted_data(inner).ok_or_else(malformed)?;
                let bags = self.decrypt(algorithm, encrypted)?;
                self.bags(&bags, 0)
            }
            ENVELOPED_DATA => Err(Refused::Unreadable("is encrypted for a certificate, not with a password".into())),
            other => Err(Refused::malformed(&format!("content of the kind {other}"))),
        }
    }

    fn decrypt(&mut self, algorithm: &[u8], encrypted: &[u8]) -> Result<Vec<u8>, Refused> {
        let opened = self.password.decrypt(algorithm, encrypted, &mut self.budget)?;
        if let Some(name) = opened.weak {
            self.bundle.weak.insert(format!("it is encrypted with {name}"));
        }
        if opened.iterations < FEW {
            self.bundle.weak.insert(format!("its encryption's key is derived in {} iterations", opened.iterations));
        }
        Ok(opened.content)
    }

    fn bags(&mut self, content: &[u8], depth: usize) -> Result<(), Refused> {
        // Decrypted with the wrong key, it is no sequence.
        let mut bags = der::take(der::SEQUENCE, content).ok_or(Refused::Password)?.0;
        while let Some((bag, rest)) = der::take(der::SEQUENCE, bags) {
            self.bag(bag, depth)?;
            bags = rest;
        }
        if bags.is_empty() { Ok(()) } else { Err(Refused::malformed("malformed bags")) }
    }

    fn bag(&mut self, bag: &[u8], depth: usize) -> Result<(), Refused> {
        let malformed = || Refused::malformed("a malformed bag");
        let (kind, rest) = der::take(der::OID, bag).ok_or_else(malformed)?;
        let value = der::take(EXPLICIT_0, rest).ok_or_else(malformed)?.0;
        match der::dotted(kind).strip_prefix("1.2.840.113549.1.12.10.1.").unwrap_or_default() {
            "1" => {
                self.bundle.weak.insert("a private key in it is not encrypted".into());
                self.bundle.keys.push(value.to_vec());
            }
            "2" => {
                let (algorithm, encrypted) = shrouded(value).ok_or_else(malformed)?;
                let key = self.decrypt(algorithm, encrypted)?;
                self.bundle.keys.push(key);
            }
            "3" => self.bundle.certificates.extend(certificate(value).ok_or_else(malformed)?.map(<[u8]>::to_vec)),
            "6" if depth < MAX_DEPTH => self.bags(value, depth + 1)?,
            "6" => return Err(Refused::malformed("safes nested too deep")),
            _ => {} // revocation lists and secrets: nothing of a chain
        }
        Ok(())
    }
}

/// Fewer iterations than any tool has used for twenty years.
const FEW: u32 = 1000;

/// The MAC of a bundle (RFC 7292, section 4.1).
pub(super) struct Mac<'a> {
    /// The algorithm, without its SEQUENCE header.
    algorithm: &'a [u8],
    digest: &'a [u8],
    salt: &'a [u8],
    iterations: u32,
}

fn mac_of(mac: &[u8]) -> Option<Mac<'_>> {
    let (info, rest) = der::take(der::SEQUENCE, mac)?;
    let (algorithm, digest) = der::take(der::SEQUENCE, info)?;
    let digest = der::take(der::OCTET_STRING, digest)?.0;
    let (salt, rest) = der::take(der::OCTET_STRING, rest)?;
    let iterations = if rest.is_empty() { 1 } else { cipher::number(der::take(der::INTEGER, rest)?.0)? };
    Some(Mac { algorithm, digest, salt, iterations })
}

/// The algorithm and the encrypted content of an EncryptedData (RFC 5652, section 8).
fn encrypted_data(inner: &[u8]) -> Option<(&[u8], &[u8])> {
    let (data, _) = der::take(der::SEQUENCE, inner)?;
    let (_version, rest) = der::take(der::INTEGER, data)?;
    let (info, _) = der::take(der::SEQUENCE, rest)?;
    let (_kind, rest) = der::take(der::OID, info)?;
    let (algorithm, rest) = der::take(der::SEQUENCE, rest)?;
    Some((algorithm, der::take(IMPLICIT_0, rest)?.0))
}

/// The algorithm and the encrypted key of an EncryptedPrivateKeyInfo (RFC 5958, section 3).
fn shrouded(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, _) = der::take(der::SEQUENCE, value)?;
    let (algorithm, rest) = der::take(der::SEQUENCE, info)?;
    Some((algorithm, der::take(der::OCTET_STRING, rest)?.0))
}

/// The certificate of a bag; the inner `None` is one of another kind than X.509.
#[allow(clippy::option_option, reason = "both levels have a meaning, and one caller")]
fn certificate(value: &[u8]) -> Option<Option<&[u8]>> {
    let (bag, _) = der::take(der::SEQUENCE, value)?;
    let (kind, rest) = der::take(der::OID, bag)?;
    let der = der::take(der::OCTET_STRING, der::take(EXPLICIT_0, rest)?.0)?.0;
    Some((der::dotted(kind) == X509_CERTIFICATE).then_some(der))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Refused, open};
    use crate::tls::audit::tests::certs;

    /// A bundle that OpenSSL makes of `localhost` with these options.
    fn made(options: &[&str]) -> Vec<u8> {
        let (chain, key) = (certs("localhost.pem"), certs("localhost.key"));
        let output = Command::new("openssl")
            .args(["pkcs12", "-export", "-in"])
            .arg(&chain)
            .arg("-inkey")
            .arg(&key)
            .args(options)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{options:?}");
        output.stdout
    }

    #[test]
    fn bundles_of_every_age_open_with_their_password_and_tell_what_is_weak() {
        for (options, weak) in [
            ("-passout pass:secret", ""),
            ("-passout pass:secret -keypbe AES-128-CBC -certpbe AES-192-CBC -macalg sha512", ""),
            ("-passout pass: ", ""),
            ("-passout pass:pässwörd", ""),
            ("-passout pass:secret -macalg sha1", "its MAC is HMAC-SHA-1"),
            ("-passout pass:secret -macalg md5", "its MAC is HMAC-MD5"),
            ("-passout pass:secret -keypbe PBE-SHA1-3DES", "PBE-SHA1-3DES"),
            ("-passout pass:secret -certpbe PBE-SHA1-2DES", "PBE-SHA1-2DES"),
            ("-passout pass:secret -certpbe DES-EDE3-CBC", "DES-EDE3-CBC"),
            ("-passout pass:secret -legacy", "PBE-SHA1-RC2-40"),
            ("-passout pass:secret -legacy -certpbe PBE-SHA1-RC2-128", "PBE-SHA1-RC2-128"),
            ("-passout pass:secret -nomac", "it has no MAC"),
            ("-passout pass:secret -keypbe NONE", "a private key in it is not encrypted"),
            ("-passout pass:secret -certpbe NONE", ""),
            ("-passout pass:secret -noiter -nomaciter", "1 iterations"),
        ] {
            let bundle = made(&options.split_whitespace().collect::<Vec<_>>());
            let password = options.split("pass:").nth(1).unwrap().split(' ').next().unwrap();
            let opened = open(&bundle, password).map_err(|refused| format!("{options}: {refused:?}")).unwrap();
            assert_eq!((opened.certificates.len(), opened.keys.len()), (2, 1), "{options}");
            let said: Vec<String> = opened.weak.into_iter().collect();
            assert_eq!(said.is_empty(), weak.is_empty(), "{options}: {said:?}");
            assert!(said.join("; ").contains(weak), "{options}: {said:?}");
        }
    }

    #[test]
    fn a_wrong_password_is_told_from_a_broken_file() {
        for options in ["-passout pass:secret", "-passout pass:secret -nomac", "-passout pass:secret -legacy"] {
            let bundle = made(&options.split_whitespace().collect::<Vec<_>>());
            assert_eq!(open(&bundle, "wrong").err(), Some(Refused::Password), "{options}");
        }
        let bundle = made(&["-passout", "pass:secret"]);
        assert!(matches!(open(&bundle[..bundle.len() - 9], "secret").err(), Some(Refused::Unreadable(_))));
        assert!(matches!(open(&[0x30, 0x80, 2, 1, 3], "").err(), Some(Refused::Unreadable(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_exchanged_are_read_without_a_panic_and_in_bounded_time(
            places in proptest::collection::vec((0usize..2000, proptest::prelude::any::<u8>()), 1..4))
        {
            let mut bundle = std::fs::read(certs("localhost.p12")).unwrap();
            for (place, byte) in places {
                let at = place % bundle.len();
                bundle[at] = byte;
            }
            let _ = open(&bundle, "secret");
        }
    }
}
