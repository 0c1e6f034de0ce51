//! Revocation lists: reading them, refusing those that say less than they seem to, and choosing one for each issuer.
//!
//! Called by `client_auth`. The verifier takes the first list under an issuer's name, so what it is given here has one
//! for each: the latest. Where two authorities share a name, as after a change of key, each has a turn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateRevocationListDer;
use time::OffsetDateTime;
use x509_parser::extensions::{IssuingDistributionPoint, ParsedExtension};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::tls::chain::{self, foreign};
use crate::tls::pem;

/// A file of revocation lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// The file.
    pub file: String,
    /// When the first of its lists becomes stale; from then on clients are refused. `None` where none says.
    pub next_update: Option<OffsetDateTime>,
}

type Der = CertificateRevocationListDer<'static>;

/// Every list of every file, read and chosen from.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) files: Vec<Crl>,
    /// One list for each issuer's name; more than one such set where several keys have one name.
    pub(super) sets: Vec<Vec<Der>>,
}

/// What must be known of a list to choose it.
struct List {
    der: Der,
    issuer: Vec<u8>,
    /// Which of the issuer's keys signed it, where it says.
    key_id: Option<Vec<u8>>,
    since: OffsetDateTime,
    next_update: OffsetDateTime,
}

impl Lists {
    /// Reads the files; relative paths are relative to `directory`.
    ///
    /// # Errors
    /// What is wrong, in words that begin with the file.
    pub(super) fn read(paths: &[PathBuf], directory: &Path) -> Result<Self, Vec<String>> {
        let (mut files, mut lists, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for path in paths {
            let path = directory.join(path);
            match read_file(&path) {
                Ok(found) => {
                    let next_update = found.iter().map(|list| list.next_update).min();
                    files.push(Crl { file: path.display().to_string(), next_update });
                    lists.extend(found);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Self { files, sets: sets(lists) }) } else { Err(faults) }
    }
}

fn read_file(path: &Path) -> Result<Vec<List>, String> {
    let blocks = blocks(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let several = blocks.len() > 1;
    let read = |(index, der)| {
        let place = if several { format!(", list {}", index + 1) } else { String::new() };
        read_list(der).map_err(|why| format!("{}{place}: {why}", path.display()))
    };
    blocks.into_iter().enumerate().map(read).collect()
}

/// Every list in a PEM file; none is an error, since a file was named for what it should hold.
fn blocks(path: &Path) -> Result<Vec<Der>, String> {
    let bytes = chain::read_at_most(chain::MAX_TRUST, path)?;
    let lists = pem::revocation_lists(&bytes)?;
    if !lists.is_empty() {
        return Ok(lists);
    }
    match CertificateRevocationList::from_der(&bytes) {
        Ok(_) => Err(format!("it is a revocation list in DER, not PEM; {}", foreign::list_as_pem(path))),
        Err(_) => Err("it has no X509 CRL block".into()),
    }
}

fn read_list(der: Der) -> Result<List, String> {
    let bytes = der.to_vec();
    let (rest, list) = CertificateRevocationList::from_der(&bytes).map_err(|_| "it is not a DER revocation list")?;
    if !rest.is_empty() {
        return Err("bytes follow the revocation list".into());
    }
    let next_update = list.next_update().ok_or(
        "it does not say when it becomes stale (nextUpdate), so an old one could be replayed; have the CA issue it with one",
    )?;
    let mut key_id = None;
    for extension in list.extensions() {
        match (extension.oid.to_id_string().as_str(), extension.parsed_extension()) {
            (DELTA, _) => return Err("it lists changes to another list only (a delta); name the full list".into()),
            (_, ParsedExtension::IssuingDistributionPoint(scope)) => partial(scope)?,
            (SCOPE, _) => return Err("its issuingDistributionPoint cannot be read".into()),
            (_, ParsedExtension::AuthorityKeyIdentifier(id)) => {
                key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    Ok(List {
        issuer: list.issuer().as_raw().to_vec(),
        key_id,
        since: list.last_update().to_datetime(),
        next_update: next_update.to_datetime(),
        der,
    })
}

/// deltaCRLIndicator (RFC 5280, section 5.2.4).
const DELTA: &str = "2.5.29.27";
/// issuingDistributionPoint (RFC 5280, section 5.2.5).
const SCOPE: &str = "2.5.29.28";

/// Refuses a list that holds a part of what its issuer revoked: a certificate that is not on it may be revoked all the
/// same.
fn partial(scope: &IssuingDistributionPoint<'_>) -> Result<(), String> {
    let fault = if scope.indirect_crl {
        "it is indirect: it lists certificates of other issuers"
    } else if scope.distribution_point.is_some() {
        "it is a partition: it is for one distribution point of its issuer"
    } else if scope.only_some_reasons.is_some() {
        "it is a partition: it lists some reasons for revocation only"
    } else if scope.only_contains_attribute_certs {
        "it is for attribute certificates"
    } else {
        return Ok(());
    };
    Err(format!("{fault} (issuingDistributionPoint); name the issuer's full list"))
}

/// The latest list of each key, a set with one for each issuer's name at a time.
fn sets(lists: Vec<List>) -> Vec<Vec<Der>> {
    let mut issuers = BTreeMap::<Vec<u8>, BTreeMap<Option<Vec<u8>>, List>>::new();
    for list in lists {
        let keys = issuers.entry(list.issuer.clone()).or_default();
        match keys.get(&list.key_id) {
            Some(known) if known.since >= list.since => {}
            _ => drop(keys.insert(list.key_id.clone(), list)),
        }
    }
    let most = issuers.values().map(BTreeMap::len).max().unwrap_or(0);
    let nth =
        |keys: &BTreeMap<_, List>, n: usize| keys.values().nth(n.min(keys.len() - 1)).map(|list| list.der.clone());
    (0..most).map(|n| issuers.values().filter_map(|keys| nth(keys, n)).collect()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
        CrlIssuingDistributionPoint, IsCa, Issuer, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    };
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::{CertificateError, Error};
    use time::Duration;

    use super::*;
    use crate::config::{ClientAuthConfig, ClientAuthMode};
    use crate::tls::client_auth::ClientAuth;

    /// A folder with a file of authorities and files of lists, removed in the end.
    struct Trust(PathBuf);

    impl Drop for Trust {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    impl Trust {
        fn new(test: &str, authorities: &[&Authority], lists: &[&str]) -> Self {
            let folder = std::env::temp_dir().join(format!("portcullis-crl-{}-{test}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let pem: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
            std::fs::write(folder.join("ca.pem"), pem).unwrap();
            for (index, list) in lists.iter().enumerate() {
                std::fs::write(folder.join(format!("{index}.crl")), list).unwrap();
            }
            Self(folder)
        }

        fn read(&self, lists: usize) -> Result<ClientAuth, Vec<(&'static str, String)>> {
            let crl = (0..lists).map(|index| format!("{index}.crl").into()).collect();
            let config =
                ClientAuthConfig { mode: ClientAuthMode::Required, ca: "ca.pem".into(), crl, allow: Vec::new() };
            ClientAuth::read(&config, &self.0)
        }
    }

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        fn client(&self, serial: u64) -> CertificateDer<'static> {
            let mut params = CertificateParams::new(vec!["client.test".into()]).unwrap();
            params.serial_number = Some(SerialNumber::from(serial));
            params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
        }

        /// A list of so many hours ago, good for two days from then, that revokes one client.
        fn list(&self, hours_ago: i64, revoked: u64, partition: Option<&str>) -> String {
            let this_update = OffsetDateTime::now_utc() - Duration::hours(hours_ago);
            let list = CertificateRevocationListParams {
                this_update,
                next_update: this_update + Duration::days(2),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: partition.map(|uri| CrlIssuingDistributionPoint {
                    distribution_point: CrlDistributionPoint { uris: vec![uri.to_owned()] },
                    scope: None,
                }),
                revoked_certs: vec![RevokedCertParams {
                    serial_number: SerialNumber::from(revoked),
                    revocation_time: this_update,
                    reason_code: None,
                    invalidity_date: None,
                }],
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            list.signed_by(&self.issuer).unwrap().pem().unwrap()
        }
    }

    fn verdict(auth: &ClientAuth, client: CertificateDer<'static>) -> Result<(), Error> {
        auth.verifier().verify(&[client], UnixTime::now()).map(drop)
    }

    const REVOKED: Error = Error::InvalidCertificate(CertificateError::Revoked);

    #[test]
    fn each_issuers_own_list_counts_and_of_several_the_latest() {
        let (one, other) = (Authority::new("One"), Authority::new("Other"));
        let lists = [one.list(20, 1, None), other.list(5, 3, None), one.list(1, 2, None), one.list(10, 1, None)];
        let trust = Trust::new("latest", &[&one, &other], &lists.each_ref().map(String::as_str));
        let auth = trust.read(lists.len()).unwrap();
        assert_eq!(verdict(&auth, one.client(1)), Ok(()), "only an older list has it");
        assert_eq!(verdict(&auth, one.client(2)), Err(REVOKED));
        assert_eq!(verdict(&auth, one.client(3)), Ok(()), "the other issuer's list has it");
        assert_eq!(verdict(&auth, other.client(3)), Err(REVOKED));
    }

    #[test]
    fn authorities_of_one_name_each_have_the_list_of_their_key() {
        // In both orders of their keys, by which the lists are tried.
        (0..8).for_each(|_| authorities_of_one_name());
    }

    fn authorities_of_one_name() {
        let (before, after) = (Authority::new("Same"), Authority::new("Same"));
        let lists = [before.list(1, 1, None), after.list(1, 2, None)];
        let trust = Trust::new("keys", &[&before, &after], &lists.each_ref().map(String::as_str));
        let auth = trust.read(2).unwrap();
        for (authority, revoked, fine) in [(&before, 1, 2), (&after, 2, 1)] {
            assert_eq!(verdict(&auth, authority.client(revoked)), Err(REVOKED));
            assert_eq!(verdict(&auth, authority.client(fine)), Ok(()));
        }
    }

    #[test]
    fn a_list_that_pem_readers_pass_over_counts_and_one_in_der_comes_with_a_remedy() {
        let one = Authority::new("One");
        let (old, new) = (one.list(10, 1, None), one.list(1, 2, None));
        for text in [format!("{}{new}", old.trim_end()), format!("\u{feff}{new}")] {
            let auth = Trust::new("glued", &[&one], &[&text]).read(1).unwrap();
            assert_eq!(verdict(&auth, one.client(2)), Err(REVOKED));
        }
        let broken = format!("{old}{}", new.replace("-----END", "----END"));
        let faults = Trust::new("broken", &[&one], &[&broken]).read(1).unwrap_err();
        assert!(faults[0].1.contains("has no END line"), "{faults:?}");
        let trust = Trust::new("der", &[&one], &[&new]);
        std::fs::write(trust.0.join("0.crl"), Der::from_pem_slice(new.as_bytes()).unwrap()).unwrap();
        let faults = trust.read(1).unwrap_err();
        assert!(faults[0].1.contains("openssl crl -inform DER -in "), "{faults:?}");
    }

    #[test]
    fn a_client_whose_issuer_has_no_list_or_a_stale_one_is_refused() {
        let (one, other) = (Authority::new("One"), Authority::new("Other"));
        let trust = Trust::new("stale", &[&one, &other], &[&one.list(49, 1, None)]);
        let auth = trust.read(1).unwrap();
        let stale = verdict(&auth, one.client(2)).unwrap_err();
        let is_stale =
            matches!(stale, Error::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. }));
        assert!(is_stale, "{stale:?}");
        let unknown = Error::InvalidCertificate(CertificateError::UnknownRevocationStatus);
        assert_eq!(verdict(&auth, other.client(2)), Err(unknown));
    }

    #[test]
    fn a_partition_is_refused_with_its_file() {
        let one = Authority::new("One");
        let lists = [one.list(1, 1, None), one.list(1, 1, Some("http://ca.test/1.crl"))];
        let trust = Trust::new("partition", &[&one], &lists.each_ref().map(String::as_str));
        let faults = trust.read(2).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].0 == "crl" && faults[0].1.contains("1.crl: it is a partition"), "{faults:?}");
    }
}
