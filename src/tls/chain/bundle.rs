//! Makes a [`Material`] of a PKCS#12 bundle, with everything that is wrong with the bundle. `collect` calls this.

use std::path::Path;

use rustls::pki_types::PrivatePkcs8KeyDer;

use super::{Material, foreign, read_file};
use crate::tls::audit::rules::RuleId;
use crate::tls::pkcs12::{Bundle, Refused, open};

/// Whether a file is a PKCS#12 bundle.
pub(in crate::tls) fn is_bundle(file: &Path) -> bool {
    read_file(file).is_ok_and(|bytes| foreign::is_pkcs12(&bytes))
}

/// Whether a bundle opens with this password.
pub(in crate::tls) fn opens(file: &Path, password: &str) -> bool {
    read_file(file).is_ok_and(|bytes| open(&bytes, password).is_ok())
}

/// Reads a bundle as chain and key in one; `None` for any other file, and for one that needs a password where none was
/// given. Its certificates have no order that means anything.
pub(in crate::tls) fn read(file: &Path, password: Option<&str>) -> Option<Material> {
    let bytes = read_file(file).ok().filter(|bytes| foreign::is_pkcs12(bytes))?;
    let mut material = Material::empty(file, None);
    material.ordered = false;
    match (open(&bytes, password.unwrap_or_default()), password) {
        (Ok(bundle), _) => material.fill(bundle),
        (Err(Refused::Password), None) => return None,
        (Err(Refused::Password), Some(_)) => {
            let seen = "does not open with the password that was given, or was changed".to_owned();
            material.fault(RuleId::Pkcs12Password, None, seen, None);
        }
        (Err(Refused::Unreadable(seen)), _) => material.fault(RuleId::Pkcs12Unreadable, None, seen, None),
    }
    Some(material)
}

impl Material {
    fn fill(&mut self, bundle: Bundle) {
        if bundle.certificates.is_empty() {
            self.fault(RuleId::PemNoCert, None, "is a PKCS#12 bundle without a certificate".into(), None);
        }
        for der in bundle.certificates {
            self.begun += 1;
            self.add(der.into(), self.begun, "");
        }
        if !bundle.weak.is_empty() {
            let weak: Vec<String> = bundle.weak.into_iter().collect();
            self.fault(RuleId::Pkcs12Weak, None, format!("is badly protected: {}", weak.join("; ")), None);
        }
        if !bundle.keys.is_empty() {
            self.key_file = Some(self.file.clone());
        }
        match <[Vec<u8>; 1]>::try_from(bundle.keys) {
            Ok([key]) => self.key = Some(PrivatePkcs8KeyDer::from(key).into()),
            Err(none) if none.is_empty() => {}
            Err(several) => {
                let seen = format!("holds {} private keys", several.len());
                self.key_fault(seen, Some("make a bundle for each key, with its own chain".into()));
            }
        }
    }
}
