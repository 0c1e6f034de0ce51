//! A certificate: what the audit needs to know of it, read once.
//!
//! `chain` makes them from a file's blocks; the rules in `audit/` read them. Nothing here judges, but for what makes a
//! certificate unreadable (its `defects`).

use std::collections::HashSet;
use std::net::IpAddr;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, GeneralSubtree, ParsedExtension};
use x509_parser::prelude::{
    AttributeTypeAndValue, FromDer, RelativeDistinguishedName, X509Certificate, X509Extension, X509Name,
};

use crate::tls::der;
use crate::tls::key::{PublicKey, SignatureAlgorithm};

/// Text of a certificate is cut at this many characters where people read it.
const LONGEST_TEXT: usize = 300;

/// One certificate of a file.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Where it stands among the file's certificates; 1 is first.
    pub position: usize,
    /// The version; 3 is the only one that TLS allows, but old roots have 1.
    pub version: u32,
    /// All of it.
    pub der: CertificateDer<'static>,
    /// SHA-256 of all of it, in lower-case hex.
    pub sha256: String,
    /// The subject, for people.
    pub subject: String,
    /// The issuer, for people.
    pub issuer: String,
    /// The serial number in upper-case hex.
    pub serial: String,
    /// The public key.
    pub key: PublicKey,
    /// How it is signed.
    pub signature: SignatureAlgorithm,
    /// When it becomes valid.
    pub not_before: OffsetDateTime,
    /// The last second that it is valid in.
    pub not_after: OffsetDateTime,
    /// What its extensions say.
    pub extensions: Extensions,
    /// What makes it unreadable to a careful client, in words.
    pub defects: Vec<String>,
    /// What a careful CA does not write and most clients read all the same, in words.
    pub oddities: Vec<String>,
    /// The subject's common names.
    pub common_names: Vec<String>,
    /// The subject, in a form that compares.
    pub directory_name: DirectoryName,
    pub(super) raw: Raw,
}

/// The pieces whose exact bytes matter.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    /// What is signed.
    pub(super) tbs: Vec<u8>,
    /// The algorithm that the signature is under, without its SEQUENCE header, as verifiers compare it.
    pub(super) algorithm: Vec<u8>,
    /// Whether the algorithm inside what is signed is the same, byte for byte.
    pub(super) algorithms_agree: bool,
    pub(super) signature: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    /// The serial number's content octets.
    pub(super) serial: Vec<u8>,
    /// The algorithm of the public key, without its SEQUENCE header.
    pub(super) key_algorithm: Vec<u8>,
    /// The public key's own bits.
    pub(super) key_bits: Vec<u8>,
}

/// What a certificate's extensions say.
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    /// Whether basicConstraints says CA:TRUE.
    pub ca: bool,
    /// How many issuers may stand below it.
    pub path_length: Option<u32>,
    /// What the key may be used for.
    pub key_usage: Option<KeyUsage>,
    /// What the certificate may be used for.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// Names to connect to it by, as they stand there.
    pub dns_names: Vec<String>,
    /// Addresses to connect to it by.
    pub ip_addresses: Vec<IpAddr>,
    /// Alternative names that cannot be read as what they claim to be.
    pub odd_names: Vec<String>,
    /// What may stand below it.
    pub name_constraints: Option<NameConstraints>,
    /// Identifies its key.
    pub subject_key_id: Option<Vec<u8>>,
    /// Identifies its issuer's key.
    pub authority_key_id: Option<Vec<u8>>,
    /// Whether it says where its issuer's revocation list is.
    pub crl: bool,
    /// Whether it says where its status can be asked for.
    pub ocsp: bool,
    /// Where its issuer's certificate can be had.
    pub issuer_urls: Vec<String>,
    /// Whether it carries signed certificate timestamps (RFC 6962, section 3.3).
    pub timestamps: bool,
    /// Whether clients must insist on a stapled status (RFC 7633).
    pub must_staple: bool,
    /// Whether it is a precertificate (RFC 6962, section 3.1).
    pub poison: bool,
    /// Critical extensions that no common client heeds, by object identifier.
    pub unknown_critical: Vec<String>,
}

/// keyUsage (RFC 5280, section 4.2.1.3).
#[derive(Clone, Copy, Debug)]
pub struct KeyUsage {
    /// digitalSignature.
    pub digital_signature: bool,
    /// keyCertSign.
    pub key_cert_sign: bool,
    /// cRLSign.
    pub crl_sign: bool,
}

/// extKeyUsage (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug)]
pub struct ExtendedKeyUsage {
    /// serverAuth.
    pub server_auth: bool,
    /// clientAuth.
    pub client_auth: bool,
    /// OCSPSigning.
    pub ocsp_signing: bool,
    /// anyExtendedKeyUsage.
    pub any: bool,
}

/// nameConstraints (RFC 5280, section 4.2.1.10).
#[derive(Clone, Debug, Default)]
pub struct NameConstraints {
    /// Names must be in one of these, where there is one of their kind.
    pub permitted: Vec<Subtree>,
    /// Names must be in none of these.
    pub excluded: Vec<Subtree>,
}

/// A name's parts, each as kinds and values of what it says. In values, case and the number of blanks tell nothing apart
/// (RFC 5280, section 7.1).
pub type DirectoryName = Vec<Vec<(String, String)>>;

/// Part of a name space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// A domain and what is below it.
    Dns(String),
    /// A network: address and mask, 8 or 32 octets.
    Ip(Vec<u8>),
    /// Subjects that begin with these parts.
    Directory(DirectoryName),
    /// Names of a kind that servers are not connected to by.
    Other,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// What stops the reading, in words.
    pub fn read(der: CertificateDer<'static>, position: usize) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| "is not a DER certificate".to_owned())?;
        let raw = raw(&der, &parsed).ok_or("is not a DER certificate")?;
        let key = PublicKey::read(parsed.public_key().raw).ok_or("has an unreadable public key")?;
        let mut defects = Vec::new();
        if !rest.is_empty() {
            defects.push(format!("has {} trailing bytes", rest.len()));
        }
        defects.extend(not_der(&der[..der.len() - rest.len()]));
        let extensions = extensions(&parsed, &mut defects);
        let common_names = parsed.subject().iter_common_name().filter_map(|cn| cn.as_str().ok().map(plain)).collect();
        Ok(Self {
            position,
            version: parsed.version.0.saturating_add(1),
            sha256: fingerprint(&der),
            subject: name(parsed.subject()),
            issuer: name(parsed.issuer()),
            serial: hex(parsed.raw_serial()).to_uppercase(),
            key,
            signature: SignatureAlgorithm::read(&parsed.signature_algorithm),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            extensions,
            defects,
            oddities: oddities(&parsed, &der),
            common_names,
            directory_name: directory_name(parsed.subject()),
            raw,
            der,
        })
    }

    /// Whether subject and issuer are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.raw.subject == self.raw.issuer
    }

    /// Whether both are certificates of the same subject and the same key.
    #[must_use]
    pub fn is_same_entity(&self, other: &Self) -> bool {
        self.raw.subject == other.raw.subject && self.raw.key_bits == other.raw.key_bits
    }

    /// The names and addresses to connect to it by, as text.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let dns = self.extensions.dns_names.iter().cloned();
        dns.chain(self.extensions.ip_addresses.iter().map(ToString::to_string)).collect()
    }

    /// Whether it is valid at this moment (RFC 5280, section 4.1.2.5: both ends are included).
    #[must_use]
    pub fn is_valid_at(&self, now: OffsetDateTime) -> bool {
        (self.not_before.unix_timestamp()..=self.not_after.unix_timestamp()).contains(&now.unix_timestamp())
    }
}

/// What the parser reads, and careful clients refuse.
fn not_der(der: &[u8]) -> Vec<String> {
    let mut found: Vec<String> =
        der::fault(der).into_iter().map(|fault| format!("is not DER: it has {fault}")).collect();
    let signature = |content| Some(der::split(der::split(der::split(content)?.1)?.1)?.1);
    let after = der::take(der::SEQUENCE, der).and_then(|(content, _)| signature(content)).unwrap_or_default();
    if !after.is_empty() {
        found.push(format!("has {} bytes after its signature", after.len()));
    }
    found.extend(times(der).into_iter().flatten().filter(|time| !is_whole(*time)).map(|time| {
        format!("writes a time as {}, which clients do not read", plain(&String::from_utf8_lossy(time.content)))
    }));
    found
}

/// Where it departs from the profile of RFC 5280 in ways that change nothing that it says.
fn oddities(parsed: &X509Certificate<'_>, der: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    // Section 4.1.2.2.
    match parsed.raw_serial() {
        [0x80..=0xff, ..] => found.push("its serial number is negative".to_owned()),
        serial if serial.iter().all(|octet| *octet == 0) => found.push("its serial number is zero".to_owned()),
        serial if serial.len() > 20 => {
            found.push(format!("its serial number has {} octets, more than 20", serial.len()))
        }
        _ => {}
    }
    // Section 4.1.2.4.
    if parsed.issuer().iter().next().is_none() {
        found.push("it names no issuer".to_owned());
    }
    // Section 4.2.1.6.
    let names = parsed.subject_alternative_name().ok().flatten();
    if parsed.subject().iter().next().is_none() && names.is_some_and(|names| !names.critical) {
        found.push("its subject is empty, and its alternative names are not critical".to_owned());
    }
    if parsed.version.0 < 2 && !parsed.extensions().is_empty() {
        found.push("it has extensions, which its version does not have".to_owned());
    }
    found.extend(times(der).into_iter().flatten().filter_map(odd_time));
    found
}

/// The two times of the validity as they stand there.
fn times(der: &[u8]) -> Option<[der::Element<'_>; 2]> {
    let (certificate, _) = der::take(der::SEQUENCE, der)?;
    let (tbs, _) = der::take(der::SEQUENCE, certificate)?;
    let mut rest = tbs;
    loop {
        let (element, after) = der::split(rest)?;
        // Version, serial number, algorithm and issuer come first: the validity is the SEQUENCE that begins with a time.
        if let Some((begin, more)) = der::split(element.content).filter(|(first, _)| matches!(first.tag, 0x17 | 0x18)) {
            return Some([begin, der::split(more)?.0]);
        }
        rest = after;
    }
}

/// GeneralizedTime; the other kind of time is UTCTime.
const GENERALIZED_TIME: u8 = 0x18;

/// Whether a time has whole seconds and is in UTC (RFC 5280, section 4.1.2.5).
fn is_whole(time: der::Element<'_>) -> bool {
    let digits = if time.tag == GENERALIZED_TIME { 14 } else { 12 };
    matches!(time.content.split_last(), Some((b'Z', rest)) if rest.len() == digits && rest.iter().all(u8::is_ascii_digit))
}

/// Section 4.1.2.5: two digits of the year until 2049, four from 2050 on.
fn odd_time(time: der::Element<'_>) -> Option<String> {
    let early = time.tag == GENERALIZED_TIME && is_whole(time) && time.content < &b"2050"[..];
    let written = String::from_utf8_lossy(time.content);
    early.then(|| format!("it writes a time before 2050 as a GeneralizedTime, {written}"))
}

/// SHA-256 in lower-case hex.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A certificate's word on one line: control characters are escaped, and it is cut where it grows long.
fn plain(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(LONGEST_TEXT)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().count() > LONGEST_TEXT {
        out.push('…');
    }
    out
}

/// A name, for people.
pub(super) fn name(name: &X509Name<'_>) -> String {
    plain(&name.to_string())
}

/// A name in a form that compares.
fn directory_name(name: &X509Name<'_>) -> DirectoryName {
    let said = |part: &AttributeTypeAndValue<'_>| {
        let value = part.as_str().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
        (part.attr_type().to_id_string(), value.unwrap_or_else(|_| hex(part.as_slice())))
    };
    let part = |part: &RelativeDistinguishedName<'_>| {
        let mut all: Vec<_> = part.iter().map(said).collect();
        all.sort();
        all
    };
    name.iter_rdn().map(part).collect()
}

fn raw(der: &[u8], parsed: &X509Certificate<'_>) -> Option<Raw> {
    let (certificate, _) = der::take(der::SEQUENCE, der)?;
    let (tbs, rest) = der::split(certificate)?;
    let (outer, rest) = der::split(rest)?;
    let signature = der::bits(rest)?.to_vec();
    // [0] version, if it is there; the serial number; the inner algorithm.
    let inner = match der::split(tbs.content)? {
        (version, rest) if version.tag == 0xa0 => der::split(rest)?.1,
        (_, rest) => rest,
    };
    let inner = der::split(inner)?.0;
    let (key, _) = der::take(der::SEQUENCE, parsed.public_key().raw)?;
    let (key_algorithm, key_bits) = der::take(der::SEQUENCE, key)?;
    Some(Raw {
        tbs: tbs.whole.to_vec(),
        algorithm: outer.content.to_vec(),
        algorithms_agree: inner.whole == outer.whole,
        signature,
        subject: parsed.subject().as_raw().to_vec(),
        issuer: parsed.issuer().as_raw().to_vec(),
        serial: parsed.raw_serial().to_vec(),
        key_algorithm: key_algorithm.to_vec(),
        key_bits: der::bits(key_bits)?.to_vec(),
    })
}

/// Extensions that common clients heed where they are critical: usages, names, constraints, revocation lists, policies and
/// their like. Others may be known as well, such as key identifiers, but critical they are refused.
const HEEDED: &[&str] = &[
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.37",
    "2.5.29.54",
    "2.16.840.1.113730.1.1",
];
const POISON: &str = "1.3.6.1.4.1.11129.2.4.3";
const TIMESTAMPS: &str = "1.3.6.1.4.1.11129.2.4.2";
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// status_request, the TLS extension that asks for a stapled status, as a DER integer (RFC 7633, section 6).
const STATUS_REQUEST: [u8; 3] = [der::INTEGER, 1, 5];

fn extensions(parsed: &X509Certificate<'_>, defects: &mut Vec<String>) -> Extensions {
    let mut found = Extensions::default();
    let mut seen = HashSet::new();
    for extension in parsed.extensions() {
        let oid = extension.oid.to_id_string();
        if seen.insert(oid.clone()) {
            read_extension(extension, &oid, &mut found, defects);
        } else {
            defects.push(format!("has extension {oid} twice"));
        }
    }
    found
}

fn read_extension(extension: &X509Extension<'_>, oid: &str, found: &mut Extensions, defects: &mut Vec<String>) {
    if extension.critical && oid != POISON && !HEEDED.contains(&oid) {
        found.unknown_critical.push(oid.to_owned());
    }
    match oid {
        POISON => return found.poison = true,
        TIMESTAMPS => return found.timestamps = true, // one that cannot be read is the logs' business, not ours
        TLS_FEATURE => {
            found.must_staple |= extension.value.windows(3).any(|part| part == STATUS_REQUEST);
            return;
        }
        _ => {}
    }
    let parsed = extension.parsed_extension();
    let read = !matches!(parsed, ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::ParseError { .. });
    let whole = der::split(extension.value).is_some_and(|(_, rest)| rest.is_empty());
    if read && (!whole || der::fault(extension.value).is_some()) {
        defects.push(format!("has an extension {oid} that is not DER"));
    }
    match parsed {
        ParsedExtension::BasicConstraints(constraints) => {
            found.ca = constraints.ca;
            found.path_length = constraints.path_len_constraint;
        }
        ParsedExtension::KeyUsage(usage) => {
            found.key_usage = Some(KeyUsage {
                digital_signature: usage.digital_signature(),
                key_cert_sign: usage.key_cert_sign(),
                crl_sign: usage.crl_sign(),
            });
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            found.extended_key_usage = Some(ExtendedKeyUsage {
                server_auth: usage.server_auth,
                client_auth: usage.client_auth,
                ocsp_signing: usage.ocsp_signing,
                any: usage.any,
            });
        }
        ParsedExtension::SubjectAlternativeName(names) => {
            names.general_names.iter().for_each(|name| read_name(name, found));
        }
        ParsedExtension::NameConstraints(constraints) => {
            let read = |trees: &Option<Vec<GeneralSubtree<'_>>>| trees.iter().flatten().map(subtree).collect();
            found.name_constraints = Some(NameConstraints {
                permitted: read(&constraints.permitted_subtrees),
                excluded: read(&constraints.excluded_subtrees),
            });
        }
        ParsedExtension::SubjectKeyIdentifier(id) => found.subject_key_id = Some(id.0.to_vec()),
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            found.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
        }
        ParsedExtension::CRLDistributionPoints(_) => found.crl = true,
        ParsedExtension::AuthorityInfoAccess(access) => {
            for description in access.iter() {
                let method = description.access_method.to_id_string();
                found.ocsp |= method == "1.3.6.1.5.5.7.48.1";
                if let (true, GeneralName::URI(url)) = (method == "1.3.6.1.5.5.7.48.2", &description.access_location) {
                    found.issuer_urls.push(plain(url));
                }
            }
        }
        ParsedExtension::ParseError { .. } => defects.push(format!("has an unreadable extension {oid}")),
        _ => {}
    }
}

fn read_name(name: &GeneralName<'_>, found: &mut Extensions) {
    match name {
        GeneralName::DNSName(dns) if is_host_name(dns) => found.dns_names.push((*dns).to_owned()),
        GeneralName::DNSName(dns) => found.odd_names.push(plain(&format!("DNS:{dns}"))),
        GeneralName::IPAddress(octets) => match ip(octets) {
            Some(ip) => found.ip_addresses.push(ip),
            None => found.odd_names.push(format!("IP:{}", hex(octets))),
        },
        GeneralName::Invalid(tag, octets) => {
            found.odd_names.push(plain(&format!("[{}]:{}", tag.0, String::from_utf8_lossy(octets))));
        }
        _ => {}
    }
}

/// Whether this can be a name to connect by, a wildcard included: no NUL, no space, no address, nothing that could be
/// read twice (RFC 1123, section 2.1, with the underscore that is in use).
fn is_host_name(dns: &str) -> bool {
    let label = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_*".contains(&b);
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(good)
    };
    let last = dns.rsplit('.').next().unwrap_or_default();
    dns.len() <= 253 && dns.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn subtree(tree: &GeneralSubtree<'_>) -> Subtree {
    match &tree.base {
        GeneralName::DNSName(dns) => Subtree::Dns((*dns).to_owned()),
        GeneralName::IPAddress(octets) => Subtree::Ip(octets.to_vec()),
        GeneralName::DirectoryName(name) => Subtree::Directory(directory_name(name)),
        _ => Subtree::Other,
    }
}
