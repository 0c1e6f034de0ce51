//! The `Client-Cert` field: a verified client certificate, for the upstream (RFC 9440, section 2.2).
//!
//! Used by `request`.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

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
    /// The field's value for a certificate: its DER in base64, between colons.
    pub(super) fn value(&self, certificate: &Arc<ClientCertificate>) -> Option<HeaderValue> {
        let mut last = self.last.get_or_default().borrow_mut();
        match &*last {
            Some((same, value)) if Arc::ptr_eq(same, certificate) => Some(value.clone()),
            _ => {
                let value = HeaderValue::try_from(format!(":{}:", base64(&certificate.leaf))).ok()?;
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

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_vectors_of_rfc_4648() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in vectors.into_iter().enumerate() {
            assert_eq!(base64(&b"foobar"[..length]), expected);
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
