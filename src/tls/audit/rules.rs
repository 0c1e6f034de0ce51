//! The table of rules: what is checked, how it weighs, where that comes from, and what to do about it.
//!
//! Adding a rule is an entry here and a check in one of this folder's files. Ids stay for good: operators write them
//! into their configurations. The rules are those of the CA/Browser Forum's baseline requirements (BR) as of
//! November 2026, of TLS, and of what clients do.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// How a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Reported where details are asked for.
    Info,
    /// Served and reported.
    Warn,
    /// Clients fail with it, or a careful one does: served only where nothing better covers the names.
    Error,
    /// Never served.
    Deny,
}

impl Level {
    /// The level as the configuration spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name in configurations and reports.
    pub id: &'static str,
    /// What it finds.
    pub checks: &'static str,
    /// How a finding weighs on a public endpoint.
    pub public: Level,
    /// How it weighs on an internal one.
    pub internal: Level,
    /// Whether a chain with this finding cannot be served at all, so that neither a level nor a waiver helps.
    pub unservable: bool,
    /// Where it is written.
    pub source: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! rules {
    ($($variant:ident = $id:literal, $public:ident / $internal:ident $($unservable:ident)?,
        checks $checks:literal, source $source:literal, why $why:literal, fix $fix:literal;)+) => {
        /// Names a rule of [`RULES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RuleId { $(#[doc = $checks] $variant,)+ }

        /// Every rule, in the order in which they are reported.
        pub const RULES: &[Rule] = &[$(Rule {
            id: $id, checks: $checks, public: Level::$public, internal: Level::$internal,
            unservable: rules!(@ $($unservable)?), source: $source, why: $why, fix: $fix,
        },)+];

        impl RuleId {
            /// Every id, in the order of [`RULES`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }
    };
    (@ unservable) => { true };
    (@) => { false };
}

impl Rule {
    /// Where the first of its sources can be read.
    #[must_use]
    pub fn help_uri(&self) -> String {
        let after = |word: &str| self.source.split_once(word).map(|(_, rest)| rest);
        let rfc = after("RFC ").map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
        match rfc {
            Some(number) if !self.source.starts_with("BR") => format!("https://www.rfc-editor.org/rfc/rfc{number}"),
            _ => "https://cabforum.org/working-groups/server/baseline-requirements/requirements/".to_owned(),
        }
    }
}

impl RuleId {
    /// The rule.
    #[must_use]
    pub fn rule(self) -> &'static Rule {
        &RULES[self as usize]
    }

    /// The rule of this name.
    #[must_use]
    pub fn by_name(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.rule().id == id)
    }
}

rules! {
    FileUnreadable = "file-unreadable", Deny / Deny unservable,
        checks "The chain file is missing, a directory, a FIFO, a symlink loop, too large, or not readable",
        source "the file system",
        why "there is nothing to serve",
        fix "correct the path or the mode";
    PemNoCert = "pem-no-cert", Deny / Deny unservable,
        checks "The chain file holds no CERTIFICATE block",
        source "RFC 7468, section 5",
        why "there is nothing to serve",
        fix "name a PEM file with the leaf and its issuers";
    PemMalformed = "pem-malformed", Deny / Deny unservable,
        checks "A block was begun but is not read as a certificate by every PEM reader",
        source "RFC 7468, section 2",
        why "PEM readers pass over such a block without a word, and an incomplete chain is served",
        fix "rebuild the file, each BEGIN and END on a line of its own";
    Pkcs12Password = "pkcs12-password", Deny / Deny unservable,
        checks "The PKCS#12 bundle does not open with the password that was given",
        source "RFC 7292, section 5.1",
        why "nothing in it can be read",
        fix "give the right password, or have the bundle exported anew";
    Pkcs12Unreadable = "pkcs12-unreadable", Deny / Deny unservable,
        checks "The PKCS#12 bundle is malformed, or protected in a way that cannot be opened here",
        source "RFC 7292, section 4",
        why "nothing in it can be read",
        fix "write it anew: openssl pkcs12 -in OLD -noenc -out PEM, then openssl pkcs12 -export -in PEM -out NEW";
    Pkcs12Weak = "pkcs12-weak", Warn / Warn,
        checks "The PKCS#12 bundle is protected with MD5, SHA-1 or an old cipher, with few iterations, or not at all",
        source "RFC 7292, appendix B and C; RFC 9579",
        why "whoever gets hold of the file gets the private key with little work",
        fix "export it anew with AES-256 and a SHA-256 MAC, as OpenSSL 3 does unless it is told -legacy";
    CertUnparseable = "cert-unparseable", Deny / Deny unservable,
        checks "A certificate is not DER, has trailing bytes, is not of version 3, or has a broken or repeated extension",
        source "RFC 5280, section 4.1; RFC 8446, section 4.4.2.2",
        why "clients end the handshake where they cannot read a certificate",
        fix "replace the certificate";
    CertNonconforming = "cert-nonconforming", Warn / Info,
        checks "A certificate departs from the profile: a serial number that is negative, zero or too long, a time in another \
                form, an empty subject with alternative names that are not critical, no issuer",
        source "RFC 5280, sections 4.1.2.2, 4.1.2.4, 4.1.2.5 and 4.2.1.6",
        why "some clients refuse it, such as those written in Go, and tools disagree about it",
        fix "have it reissued by a CA that keeps to the profile";
    KeyUnusable = "key-unusable", Deny / Deny unservable,
        checks "The key file is missing, holds no key or several, or its key is encrypted or garbage",
        source "RFC 5958",
        why "without the private key no handshake can be signed",
        fix "name a file with the leaf's one private key, not encrypted";
    KeyMismatch = "key-mismatch", Deny / Deny unservable,
        checks "The private key is not the leaf's",
        source "RFC 8446, section 4.4.3",
        why "every client would find the handshake's signature invalid",
        fix "install the key and the certificate that belong together";
    KeyUnsupported = "key-unsupported", Deny / Deny unservable,
        checks "The gateway cannot sign with the leaf's kind of key",
        source "RFC 8446, section 4.2.3",
        why "no handshake could be signed with it",
        fix "have the certificate issued for an ECDSA P-256 or RSA 2048 key";
    SigMd5 = "sig-md5", Deny / Deny,
        checks "A certificate that clients must verify is signed with MD5, MD4 or MD2, or with PSS over one of them",
        source "RFC 8446, sections 4.2.3 and 4.4.2.4; RFC 9155",
        why "clients end TLS 1.2 and 1.3 handshakes over it, often with an error that does not name it",
        fix "ask the CA to reissue it with SHA-256";
    SigSha1 = "sig-sha1", Deny / Warn,
        checks "A certificate that clients must verify is signed with SHA-1, or with PSS over it (the default of PSS)",
        source "RFC 8446, sections 4.4.2.2 and 4.4.2.4; BR 7.1.3.2.1",
        why "browsers and current TLS libraries refuse it",
        fix "ask the CA to reissue it with SHA-256";
    SigAlgMismatch = "sig-alg-mismatch", Deny / Deny,
        checks "A certificate names one signature algorithm inside what is signed and another outside",
        source "RFC 5280, section 4.1.1.2",
        why "clients must refuse it",
        fix "ask the CA to reissue it";
    SigUnknown = "sig-unknown", Error / Error,
        checks "A certificate is signed with an algorithm that TLS has no scheme for",
        source "RFC 8446, section 4.2.3; BR 7.1.3.2",
        why "clients cannot verify it",
        fix "ask the CA to reissue it with SHA-256 and RSA or ECDSA";
    SigInvalid = "sig-invalid", Error / Error,
        checks "A certificate's signature does not verify under the issuer in the file",
        source "RFC 5280, section 6.1.3",
        why "clients cannot build a path from it",
        fix "install the intermediate that issued it";
    AnchorWeakSig = "anchor-weak-sig", Info / Info,
        checks "A self-signature is made with MD5 or SHA-1",
        source "RFC 8446, sections 4.4.2.2 and 4.4.2.4",
        why "clients do not verify the signature of an anchor that they trust, so nothing fails",
        fix "drop the root from the file";
    KeyRsaSmall = "key-rsa-small", Deny / Error,
        checks "An RSA key on the path is shorter than 2048 bits",
        source "BR 6.1.5",
        why "clients refuse it, and it can be broken",
        fix "have it reissued for an RSA 2048 or ECDSA P-256 key";
    KeyRsaOdd = "key-rsa-odd", Warn / Warn,
        checks "An RSA key on the path has an exponent of 1 or an even one (denied), a small one, or over 4096 bits",
        source "BR 6.1.6",
        why "some clients refuse such keys, and very long ones are slow",
        fix "have it reissued for an RSA 2048 key with exponent 65537, or an ECDSA P-256 key";
    IssuerKeyUnsupported = "issuer-key-unsupported", Error / Error,
        checks "An issuer on the path has a key that clients verify no signatures with: DSA, Ed448, an uncommon or explicit curve",
        source "RFC 8446, section 4.2.3; RFC 5480, section 2.1.1",
        why "clients cannot verify the certificate that it signed",
        fix "have the leaf issued under an ECDSA P-256 or RSA 2048 authority";
    KeyNotWeb = "key-not-web", Warn / Info,
        checks "A key on the path is Ed25519, Ed448 or P-521",
        source "BR 6.1.5 and 7.1.3.1",
        why "browsers do not support it in certificates",
        fix "use ECDSA P-256 for public names";
    Expired = "expired", Error / Error,
        checks "A certificate on the path is past its notAfter",
        source "RFC 5280, section 6.1.3",
        why "clients refuse it",
        fix "renew it";
    NotYetValid = "not-yet-valid", Error / Error,
        checks "A certificate on the path is before its notBefore, or ends before it begins",
        source "RFC 5280, section 4.1.2.5",
        why "clients refuse it",
        fix "check this machine's clock, or have it reissued";
    ExpiringSoon = "expiring-soon", Warn / Warn,
        checks "A certificate on the path has less than a third of its lifetime left (3 days at least, 30 at most)",
        source "operations",
        why "clients will refuse it when it ends",
        fix "renew it";
    ValidityTooLong = "validity-too-long", Warn / Info,
        checks "The leaf lasts longer than its notBefore allows: 398 days, 200 since 2026-03-15, 100 since 2027-03-15, \
                47 since 2029-03-15; internal: 825",
        source "BR 6.3.2",
        why "browsers refuse certificates that last longer, if a public CA issued them",
        fix "have it reissued for a shorter time";
    IssuerExpiresFirst = "issuer-expires-first", Warn / Info,
        checks "An intermediate ends before the leaf",
        source "RFC 5280, section 6.1.3",
        why "the chain ends with its first certificate to end, whatever the leaf says",
        fix "ask the CA for the newer intermediate";
    LeafNotFirst = "leaf-not-first", Warn / Warn,
        checks "The leaf is not the file's first certificate",
        source "RFC 8446, section 4.4.2; RFC 5246, section 7.4.2",
        why "other servers and older clients take the first certificate for the leaf; it is served in the right order here",
        fix "put the leaf first";
    ChainUnordered = "chain-unordered", Warn / Warn,
        checks "The issuers do not stand in the order of the path",
        source "RFC 8446, section 4.4.2; RFC 5246, section 7.4.2",
        why "older clients need the order; it is served in the right one here",
        fix "order the file: leaf, its issuer, the issuer's issuer";
    ChainIncomplete = "chain-incomplete", Error / Warn,
        checks "The leaf's issuer is not in the file, and the leaf is not self-signed",
        source "RFC 8446, section 4.4.2",
        why "clients that have not met the intermediate elsewhere cannot build a path",
        fix "append the intermediates";
    ChainExtra = "chain-extra", Info / Info,
        checks "The file holds something that clients do not need: the root, a duplicate, an unrelated certificate, a key",
        source "RFC 8446, section 4.4.2",
        why "it would cost every handshake bytes; it is not served",
        fix "remove it from the file";
    ChainCrossSigned = "chain-cross-signed", Info / Info,
        checks "The file holds a second certificate for an issuer on the path, by another authority",
        source "RFC 8446, section 4.4.2",
        why "it lets clients that trust only the other authority build a path; it is served after the path",
        fix "remove it once no client needs it";
    ChainTooLarge = "chain-too-large", Warn / Warn,
        checks "The file holds more than 10 certificates or 16 KiB of them; more than 64 KiB are denied",
        source "the limits of TLS libraries for a Certificate message: 64 KiB in rustls, 100 kB in OpenSSL",
        why "every full handshake sends the chain, and clients give up on a large one",
        fix "keep the leaf and its intermediates";
    IssuerInvalid = "issuer-invalid", Error / Error,
        checks "An issuer on the path may not issue: not a CA, no keyCertSign, a path too long, a name outside its \
                constraints, or extended key usages without serverAuth",
        source "RFC 5280, sections 4.2.1.3, 4.2.1.9, 4.2.1.10 and 4.2.1.12",
        why "clients refuse the path",
        fix "use an issuing CA that may issue this";
    IssuerNameMismatch = "issuer-name-mismatch", Error / Error,
        checks "A certificate names its issuer otherwise than the issuer that signed it names itself",
        source "RFC 5280, sections 4.1.2.4 and 7.1",
        why "many clients compare the names byte for byte, and find no issuer",
        fix "install the issuer's certificate whose subject is written as the certificate writes its issuer";
    LeafIsCa = "leaf-is-ca", Error / Warn,
        checks "The leaf's basicConstraints say CA:TRUE",
        source "BR 7.1.2.7.8",
        why "rustls and other clients refuse a CA as a server",
        fix "issue an end-entity certificate";
    SelfSignedLeaf = "self-signed-leaf", Error / Warn,
        checks "The leaf is signed with its own key",
        source "BR 7.1.2.7",
        why "only clients that were given this very certificate trust it",
        fix "get a certificate from a CA";
    SanMissing = "san-missing", Error / Error,
        checks "The leaf has neither a dNSName nor an iPAddress",
        source "RFC 9525, section 6; BR 7.1.2.7.12",
        why "clients do not look at the common name; they find no name to match",
        fix "have it reissued with subject alternative names";
    SanMismatch = "san-mismatch", Error / Error,
        checks "A name that the endpoint must serve, or the address it listens on, is not covered",
        source "RFC 9525, section 6",
        why "clients that connect by it refuse the certificate",
        fix "have it reissued with the name, or correct server_names";
    SanSuspicious = "san-suspicious", Warn / Info,
        checks "A name cannot match or should not be there: a wildcard that is bare, partial or over a public suffix, an \
                internal name, a reserved address, a common name that is not among the alternative names",
        source "BR 7.1.2.7.12 and 7.1.4.3",
        why "clients do not match such names, and public CAs must not certify them",
        fix "have it reissued without it";
    EkuNoServer = "eku-no-server", Error / Error,
        checks "The leaf's extended key usages do not include serverAuth",
        source "RFC 5280, section 4.2.1.12; BR 7.1.2.7.10",
        why "clients refuse it as a server's certificate",
        fix "have it reissued with serverAuth";
    KuNoSigning = "ku-no-signing", Error / Error,
        checks "The leaf's key usage does not include digitalSignature",
        source "RFC 8446, section 4.4.2.2",
        why "every TLS 1.3 handshake, and every forward-secret one before, is signed with the key",
        fix "have it reissued with digitalSignature";
    CriticalUnknown = "critical-unknown", Deny / Deny,
        checks "A certificate on the path has a critical extension that clients do not know, or is a precertificate",
        source "RFC 5280, section 4.2; RFC 6962, section 3.1",
        why "clients must refuse it",
        fix "install the final certificate, without the extension";
    PublicWeb = "public-web", Warn / Info,
        checks "What browsers or root programs ask for is missing: certificate timestamps, a way to learn of revocation; or \
                clientAuth is there",
        source "Chrome CT policy; BR 7.1.2.11.2; Chrome Root Policy 1.8",
        why "browsers refuse such a certificate or soon will",
        fix "have it reissued by a public CA with its current profile";
    ServerUnreachable = "server-unreachable", Deny / Deny unservable,
        checks "The server has no address, takes no connection, or makes no handshake",
        source "RFC 8446, section 2",
        why "no client gets a certificate from it",
        fix "check host, port, and whether it is TLS from the first byte on";
    ServerSignatureInvalid = "server-signature-invalid", Error / Error,
        checks "The server's handshake is not signed with the key of the certificate that it presents",
        source "RFC 8446, section 4.4.3",
        why "every client ends the handshake",
        fix "install the key and the certificate that belong together";
    ServerOldTls = "server-old-tls", Warn / Warn,
        checks "The server accepts TLS 1.0 or 1.1",
        source "RFC 8996, sections 4 and 5",
        why "both are forbidden: their handshakes rest on MD5 and SHA-1",
        fix "allow TLS 1.2 and 1.3 alone";
    ServerNoTls13 = "server-no-tls13", Info / Info,
        checks "The server does not accept TLS 1.3",
        source "RFC 9325, section 3.1.1",
        why "1.3 is safer and faster, and what comes after it (post-quantum key exchange) comes to it alone",
        fix "allow TLS 1.3 as well";
    ChainUntrusted = "chain-untrusted", Error / Error,
        checks "The chain does not verify under the roots that were given",
        source "RFC 5280, section 6.1",
        why "clients with these roots refuse it",
        fix "have it issued by an authority under these roots, or complete the chain";
    ClientCaExpired = "client-ca-expired", Error / Error,
        checks "An authority that vouches for clients is past its notAfter",
        source "RFC 5280, section 6.1.1",
        why "the gateway goes on believing it: an authority's dates are not looked at when it is given as one",
        fix "take it out of the file, or put its successor there";
    ClientCaExpiringSoon = "client-ca-expiring-soon", Warn / Warn,
        checks "An authority that vouches for clients has less than a third of its lifetime left (30 days at most)",
        source "operations",
        why "what it issued ends with it at the latest",
        fix "put its successor beside it, and have certificates issued by that one";
    ClientCaNotYetValid = "client-ca-not-yet-valid", Warn / Warn,
        checks "An authority that vouches for clients is before its notBefore",
        source "RFC 5280, section 4.1.2.5",
        why "the gateway believes it all the same",
        fix "check this machine's clock, and whether it is the right file";
    ClientCaWeak = "client-ca-weak", Error / Error,
        checks "An authority that vouches for clients has a key that the gateway verifies no signatures with",
        source "RFC 8446, section 4.2.3; BR 6.1.5",
        why "every certificate that it issued is refused",
        fix "have the authority made anew with ECDSA P-256 or RSA 2048";
    ClientCaNotCa = "client-ca-not-ca", Warn / Warn,
        checks "What is listed as an authority for clients is none by its extensions",
        source "RFC 5280, sections 4.2.1.3 and 4.2.1.9",
        why "it is believed all the same, and whoever has its key can issue certificates",
        fix "list the authority that issued it instead";
    UpstreamCaExpired = "upstream-ca-expired", Error / Error,
        checks "An authority that vouches for upstream servers is past its notAfter",
        source "RFC 5280, section 6.1.1",
        why "the gateway goes on believing it: an authority's dates are not looked at when it is given as one",
        fix "take it out of the file, or put its successor there";
    UpstreamCaExpiringSoon = "upstream-ca-expiring-soon", Warn / Warn,
        checks "An authority that vouches for upstream servers has less than a third of its lifetime left (30 days at most)",
        source "operations",
        why "what it issued ends with it at the latest",
        fix "put its successor beside it, and have certificates issued by that one";
    UpstreamCaNotYetValid = "upstream-ca-not-yet-valid", Warn / Warn,
        checks "An authority that vouches for upstream servers is before its notBefore",
        source "RFC 5280, section 4.1.2.5",
        why "the gateway believes it all the same",
        fix "check this machine's clock, and whether it is the right file";
    UpstreamCaWeak = "upstream-ca-weak", Error / Error,
        checks "An authority that vouches for upstream servers has a key that the gateway verifies no signatures with",
        source "RFC 8446, section 4.2.3; BR 6.1.5",
        why "every certificate that it issued is refused",
        fix "have the authority made anew with ECDSA P-256 or RSA 2048";
    UpstreamCaNotCa = "upstream-ca-not-ca", Warn / Warn,
        checks "What is listed as an authority for upstream servers is none by its extensions",
        source "RFC 5280, sections 4.2.1.3 and 4.2.1.9",
        why "it is believed all the same, and whoever has its key can issue certificates",
        fix "list the authority that issued it instead";
    CrlExpired = "crl-expired", Error / Error,
        checks "A revocation list is past its nextUpdate",
        source "RFC 5280, sections 5.1.2.5 and 6.3.3",
        why "it says nothing of what was revoked since, so the gateway refuses every client that it is for",
        fix "fetch the list anew";
    CrlExpiringSoon = "crl-expiring-soon", Warn / Warn,
        checks "A revocation list has less than a third of its time left (7 days at most)",
        source "RFC 5280, section 5.1.2.5",
        why "from its nextUpdate on clients are refused",
        fix "fetch the list anew, and see why that was not done";
    CrlNotYetValid = "crl-not-yet-valid", Warn / Warn,
        checks "A revocation list is of a moment that is yet to come",
        source "RFC 5280, section 5.1.2.4",
        why "a clock is wrong, here or at the CA",
        fix "check this machine's clock";
    CrlIssuerUnknown = "crl-issuer-unknown", Warn / Warn,
        checks "A revocation list is by none of the authorities that vouch for clients",
        source "RFC 5280, section 6.3.3",
        why "it revokes nothing, unless clients bring its issuer as an intermediate",
        fix "name the list of the authority in ca, or add its issuer there";
    CrlSignatureInvalid = "crl-signature-invalid", Error / Error,
        checks "A revocation list's signature does not verify under the key of the authority of its issuer's name",
        source "RFC 5280, section 6.3.3",
        why "every client that it is for is refused",
        fix "fetch the list anew; after a change of the authority's key, name the new authority and its list";
    CrlWeakSignature = "crl-weak-signature", Error / Error,
        checks "A revocation list is signed with MD5 or SHA-1",
        source "RFC 8446, section 4.4.2.4",
        why "the gateway does not verify such signatures, so every client that it is for is refused",
        fix "have the CA sign it with SHA-256";
    CrlIssuerInvalid = "crl-issuer-invalid", Error / Error,
        checks "The authority that signed a revocation list may not: its key usage lacks cRLSign",
        source "RFC 5280, section 6.3.3",
        why "the list is refused, and every client that it is for",
        fix "have the authority made anew with cRLSign";
    CrlMissing = "crl-missing", Error / Error,
        checks "Revocation is checked, and an authority that vouches for clients has no list",
        source "RFC 5280, section 6.3.3",
        why "whether its clients were revoked cannot be told, so every one of them is refused",
        fix "name its list in crl, or take it out of ca";
    EkuNoClient = "eku-no-client", Error / Error,
        checks "The chain that the gateway shows to upstream servers is not for clients by its extended key usages",
        source "RFC 5280, section 4.2.1.12",
        why "the upstream refuses it",
        fix "have it reissued with clientAuth";
    MustStaple = "must-staple", Warn / Info,
        checks "The leaf demands a stapled status, and there is none that is fit",
        source "RFC 7633",
        why "clients that heed the demand refuse the certificate without",
        fix "name a file with the responder's answer as `ocsp`, or have it reissued without the demand";
    OcspUnusable = "ocsp-unusable", Warn / Warn,
        checks "The staple file cannot be read, holds no answer about this leaf, or one that nobody may give",
        source "RFC 6960, sections 3.2 and 4.2",
        why "clients refuse such an answer; it is not served",
        fix "fetch it again: openssl ocsp -issuer ISSUER.pem -cert LEAF.pem -url RESPONDER -respout FILE -no_nonce";
    OcspStale = "ocsp-stale", Warn / Warn,
        checks "The staple's time is over, has not come, or is not told",
        source "RFC 6960, section 4.2.2.1",
        why "clients refuse an answer that is not of this time; it is not served",
        fix "fetch a new one, before each nextUpdate, and check this machine's clock";
    OcspRevoked = "ocsp-revoked", Error / Error,
        checks "The staple says that the leaf is revoked",
        source "RFC 6960, section 2.2",
        why "clients that look refuse it; the staple is not served, but they may ask by themselves",
        fix "have a new certificate issued";
    WaiverExpired = "waiver-expired", Info / Info,
        checks "A waiver for a finding of this chain has passed its last day",
        source "the configuration",
        why "the finding counts again",
        fix "remove the waiver, or set a later day";
}

#[cfg(test)]
mod tests {
    use super::{Level, RULES, RuleId};

    /// The first column of the audit's contract, and the two columns of levels.
    const CONTRACT: &str = "
        file-unreadable deny deny / pem-no-cert deny deny / pem-malformed deny deny / cert-unparseable deny deny /
        key-unusable deny deny / key-mismatch deny deny / key-unsupported deny deny / sig-md5 deny deny /
        sig-sha1 deny warn / sig-alg-mismatch deny deny / sig-unknown error error / sig-invalid error error /
        anchor-weak-sig info info / key-rsa-small deny error / key-rsa-odd warn warn / key-not-web warn info /
        expired error error / not-yet-valid error error / expiring-soon warn warn / validity-too-long warn info /
        issuer-expires-first warn info / leaf-not-first warn warn / chain-unordered warn warn /
        chain-incomplete error warn / chain-extra info info / chain-too-large warn warn / issuer-invalid error error /
        leaf-is-ca error warn / self-signed-leaf error warn / san-missing error error / san-mismatch error error /
        san-suspicious warn info / eku-no-server error error / ku-no-signing error error / critical-unknown deny deny /
        public-web warn info";

    #[test]
    fn every_rule_of_the_contract_is_in_the_table_at_its_levels() {
        for row in CONTRACT.split('/') {
            let words: Vec<&str> = row.split_whitespace().collect();
            let rule = RULES.iter().find(|rule| rule.id == words[0]);
            let levels = rule.map(|rule| (rule.public.as_str(), rule.internal.as_str()));
            assert_eq!(levels, Some((words[1], words[2])), "{}", words[0]);
        }
    }

    #[test]
    fn ids_are_kebab_case_and_name_one_rule_each() {
        for (id, rule) in RuleId::ALL.iter().zip(RULES) {
            assert!(rule.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", rule.id);
            assert_eq!(RuleId::by_name(rule.id), Some(*id));
            assert_eq!(id.rule().id, rule.id);
        }
    }

    #[test]
    fn levels_are_ordered_from_harmless_to_fatal() {
        assert!(Level::Info < Level::Warn && Level::Warn < Level::Error && Level::Error < Level::Deny);
    }
}
