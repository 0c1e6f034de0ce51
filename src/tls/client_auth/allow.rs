//! The allow-list: which of the clients that verify are let in, by a name in their certificate.
//!
//! Read by `client_auth`; asked by its verifier after the certificate itself was verified.

use x509_parser::prelude::{GeneralName, X509Certificate};

/// One entry of the allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Dns(String),
    Uri(String),
    Email(String),
    CommonName(String),
}

impl Allowed {
    pub(super) fn parse(entry: &str) -> Result<Self, String> {
        let expected = r#"expected "dns:…", "uri:…", "email:…" or "cn:…""#;
        let (kind, pattern) = entry.split_once(':').ok_or_else(|| format!("{entry:?}: {expected}"))?;
        if pattern.is_empty() {
            return Err(format!("{entry:?}: nothing stands behind the colon"));
        }
        match kind {
            "dns" => Ok(Self::Dns(pattern.to_ascii_lowercase())),
            "uri" => Ok(Self::Uri(pattern.to_owned())),
            "email" => Ok(Self::Email(pattern.to_owned())),
            "cn" => Ok(Self::CommonName(pattern.to_owned())),
            _ => Err(format!("{entry:?}: {expected}")),
        }
    }

    /// Whether the certificate has such a name.
    pub(super) fn admits(&self, leaf: &X509Certificate<'_>) -> bool {
        let names = || {
            let extension = leaf.subject_alternative_name().ok().flatten();
            extension.map(|san| san.value.general_names.iter()).into_iter().flatten()
        };
        match self {
            // A NUL inside a name is refused by the comparison itself: no pattern holds one (CVE-2025-66220).
            Self::Dns(pattern) => names().any(|name| match name {
                GeneralName::DNSName(dns) => glob(pattern, &dns.to_ascii_lowercase(), '.'),
                _ => false,
            }),
            Self::Uri(pattern) => names().any(|name| match name {
                GeneralName::URI(uri) => glob(pattern, uri, '/'),
                _ => false,
            }),
            Self::Email(pattern) => names().any(|name| match name {
                GeneralName::RFC822Name(email) => glob(pattern, email, '@'),
                _ => false,
            }),
            Self::CommonName(pattern) => {
                let mut names = leaf.subject().iter_common_name();
                // More than one common name is a doubt, and a doubt refuses.
                match (names.next(), names.next()) {
                    (Some(name), None) => name.as_str().is_ok_and(|name| name == pattern),
                    _ => false,
                }
            }
        }
    }
}

/// Whether `text` matches `pattern`, whose parts between separators may each be `*` for any one part.
fn glob(pattern: &str, text: &str, separator: char) -> bool {
    let (mut pattern, mut text) = (pattern.split(separator), text.split(separator));
    loop {
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some("*"), Some(part)) if !part.is_empty() => {}
            (Some(wanted), Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowed, glob};

    #[test]
    fn a_star_stands_for_exactly_one_part() {
        assert!(glob("*.clients.example.org", "a.clients.example.org", '.'));
        assert!(!glob("*.clients.example.org", "clients.example.org", '.'));
        assert!(!glob("*.clients.example.org", "a.b.clients.example.org", '.'));
        assert!(!glob("*.clients.example.org", ".clients.example.org", '.'));
        assert!(!glob("a.example.org", "a.example.org\0.evil.org", '.'));
        assert!(glob("spiffe://example.org/*", "spiffe://example.org/billing", '/'));
        assert!(!glob("spiffe://example.org/*", "spiffe://example.org/billing/x", '/'));
    }

    #[test]
    fn an_entry_without_a_known_kind_is_refused_with_what_was_expected() {
        for bad in ["ops", "ip:1.2.3.4", "cn:"] {
            assert!(Allowed::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
