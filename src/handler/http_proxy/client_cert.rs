//! The `Client-Cert` field: a verified client certificate, for the upstream (RFC 9440, section 2.2).
//!
//! Used by `request`.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use thread_local::ThreadLocal;

use crate::identity::ClientCertificate;

/// Writes the field, and keeps what it wrote last on each worker: a connection's requests come with one certificate,
/// and encoding it costs more than the rest of the head.
#[derive(Default)]
pub(super) struct ClientCert {
    last: ThreadLocal<RefCell<Option<Written>>>,
}

type Written = (Arc<ClientCertificate>, HeaderValue);

impl ClientCert {
    /// The field's value for a certificate: its DER in base64 (RFC 4648, section 4), between colons.
    pub(super) fn value(&self, certificate: &Arc<ClientCertificate>) -> Option<HeaderValue> {
        let mut last = self.last.get_or_default().borrow_mut();
        match &*last {
            Some((same, value)) if Arc::ptr_eq(same, certificate) => Some(value.clone()),
            _ => {
                let value = HeaderValue::try_from(format!(":{}:", STANDARD.encode(&certificate.leaf))).ok()?;
                *last = Some((Arc::clone(certificate), value.clone()));
                Some(value)
            }
        }
    }
}

impl fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCert").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_vectors_of_rfc_4648() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in vectors.into_iter().enumerate() {
            assert_eq!(STANDARD.encode(&b"foobar"[..length]), expected);
        }
    }

    #[test]
    fn each_certificate_gets_its_own_value() {
        let certificate = |der: &'static [u8]| Arc::new(ClientCertificate { leaf: der.into(), common_name: None });
        let (one, other, field) = (certificate(b"foo"), certificate(b"bar"), ClientCert::default());
        assert_eq!(field.value(&one).unwrap(), ":Zm9v:");
        assert_eq!(field.value(&one).unwrap(), ":Zm9v:");
        assert_eq!(field.value(&other).unwrap(), ":YmFy:");
    }
}
