//! Finds the path: from the leaf to its issuer, to that one's issuer, by verifying signatures.
//!
//! Names and key identifiers place a certificate only where its signature's algorithm cannot be computed. The work is
//! bounded, since a file may be hostile. The rules in `chain`, `signature`, `issuer` and the rest look at the result.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;

use crate::tls::audit::verify::{Signed, signed_by};
use crate::tls::certificate::Certificate;
use crate::tls::key::Hash;

/// The longest path; the longest honest ones have five certificates.
const MAX_PATH: usize = 20;
/// How many signatures are computed for one file at most; what is left is placed by name.
const MAX_VERIFICATIONS: usize = 200;

/// Where each certificate of a file stands. Numbers are indices into the file's certificates.
#[derive(Debug)]
pub(super) struct Path {
    /// The leaf, its issuer, and so on.
    pub(super) members: Vec<usize>,
    /// For each member but the last: whether the next one signed it.
    pub(super) links: Vec<Signed>,
    /// Whether the last member signed itself.
    pub(super) anchored: bool,
    /// Other certificates for issuers on the path, by other authorities, fit to be served after it.
    pub(super) alternates: Vec<usize>,
    /// What clients do not need.
    pub(super) extras: Vec<(usize, Extra)>,
}

/// Why a certificate is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    /// It ends the path and signed itself.
    Root,
    /// It stands in the file before.
    Duplicate,
    /// It is on no path, and past its end.
    Expired,
    /// It is on no path.
    Unrelated,
}

impl Path {
    /// The members that are served: all but a root that others signed below.
    pub(super) fn served(&self) -> &[usize] {
        let roots = usize::from(self.anchored && self.members.len() > 1);
        &self.members[..self.members.len() - roots]
    }

    /// The members whose signature a client must verify: all but one that signed itself.
    pub(super) fn verified(&self) -> &[usize] {
        &self.members[..self.members.len() - usize::from(self.anchored)]
    }
}

/// Which certificate is the leaf: the one that the key belongs to, else the first one that is no CA, else the first.
///
/// A key that belongs to an issuer of the first certificate makes that issuer no leaf.
pub(super) fn leaf(certificates: &[Certificate], matching: &[usize]) -> usize {
    let ca = |index: usize| certificates.get(index).is_some_and(|certificate| certificate.extensions.ca);
    if let Some(index) = matching.iter().copied().find(|index| *index == 0 || !ca(*index) || ca(0)) {
        return index;
    }
    if ca(0) { (0..certificates.len()).find(|index| !ca(*index)).unwrap_or(0) } else { 0 }
}

/// Finds the path from `leaf`.
pub(super) fn find(certificates: &[Certificate], leaf: usize, now: OffsetDateTime) -> Path {
    let mut search = Search::new(certificates, now);
    let mut path =
        Path { members: vec![leaf], links: Vec::new(), anchored: false, alternates: Vec::new(), extras: Vec::new() };
    let mut last = leaf;
    while path.members.len() < MAX_PATH {
        path.anchored = search.signed_itself(last);
        if path.anchored {
            break;
        }
        let Some((issuer, link)) = search.issuer_of(last, &path.members) else { break };
        path.members.push(issuer);
        path.links.push(link);
        last = issuer;
    }
    search.sort_the_rest(&mut path);
    path
}

struct Search<'a> {
    certificates: &'a [Certificate],
    now: OffsetDateTime,
    by_subject: HashMap<&'a [u8], Vec<usize>>,
    duplicates: HashSet<usize>,
    computed: usize,
}

impl<'a> Search<'a> {
    fn new(certificates: &'a [Certificate], now: OffsetDateTime) -> Self {
        let mut by_subject: HashMap<&[u8], Vec<usize>> = HashMap::new();
        let mut seen = HashSet::new();
        let mut duplicates = HashSet::new();
        for (index, certificate) in certificates.iter().enumerate() {
            if seen.insert(&certificate.der) {
                by_subject.entry(&certificate.raw.subject).or_default().push(index);
            } else {
                duplicates.insert(index);
            }
        }
        Self { certificates, now, by_subject, duplicates, computed: 0 }
    }

    fn signed(&mut self, child: usize, issuer: usize) -> Signed {
        self.computed += 1;
        if self.computed > MAX_VERIFICATIONS {
            return Signed::Unknown;
        }
        signed_by(&self.certificates[child], &self.certificates[issuer])
    }

    fn signed_itself(&mut self, index: usize) -> bool {
        let certificate = &self.certificates[index];
        certificate.is_self_issued()
            && match self.signed(index, index) {
                Signed::Yes => true,
                Signed::No => false,
                Signed::Unknown => key_ids_agree(certificate, certificate) != Some(false),
            }
    }

    /// The best issuer in the file: one whose key verifies, else one that cannot be ruled out, else one by name alone.
    fn issuer_of(&mut self, child: usize, members: &[usize]) -> Option<(usize, Signed)> {
        let candidates = self.by_subject.get(self.certificates[child].raw.issuer.as_slice())?.clone();
        let candidates = candidates.into_iter().filter(|index| *index != child && !members.contains(index));
        let judged: Vec<(usize, Signed)> = candidates.map(|index| (index, self.signed(child, index))).collect();
        judged.into_iter().min_by_key(|(index, signed)| self.preference(child, *index, *signed))
    }

    /// Sorts the better issuer first.
    fn preference(&self, child: usize, index: usize, signed: Signed) -> impl Ord + use<> {
        let issuer = &self.certificates[index];
        let doubt = match signed {
            Signed::Yes => 0,
            Signed::Unknown => 1,
            Signed::No => 2,
        };
        let key_ids = match key_ids_agree(&self.certificates[child], issuer) {
            Some(true) => 0,
            None => 1,
            Some(false) => 2,
        };
        let self_issued = issuer.is_self_issued();
        let weak = !self_issued && is_weak(issuer);
        let distance = if index > child { index - child } else { self.certificates.len() + child - index };
        (doubt, key_ids, !issuer.is_valid_at(self.now), weak, self_issued, distance)
    }

    /// Says of every certificate that is not on the path why it is not needed, or that it is an alternate.
    fn sort_the_rest(&self, path: &mut Path) {
        let members: HashSet<usize> = path.members.iter().copied().collect();
        if path.anchored && path.members.len() > 1 {
            path.extras.extend(path.members.last().map(|root| (*root, Extra::Root)));
        }
        for (index, certificate) in self.certificates.iter().enumerate() {
            if members.contains(&index) {
                continue;
            }
            let issuers = path.members.iter().skip(1);
            let again =
                issuers.map(|member| &self.certificates[*member]).any(|member| member.is_same_entity(certificate));
            let extra = match () {
                () if self.duplicates.contains(&index) => Extra::Duplicate,
                () if certificate.not_after < self.now => Extra::Expired,
                () if again && !certificate.is_self_issued() && certificate.extensions.ca && !is_weak(certificate) => {
                    path.alternates.push(index);
                    continue;
                }
                () => Extra::Unrelated,
            };
            path.extras.push((index, extra));
        }
        path.extras.sort_by_key(|(index, _)| *index);
    }
}

/// Whether the child's authority key identifier is the issuer's subject key identifier; `None` where either has none.
fn key_ids_agree(child: &Certificate, issuer: &Certificate) -> Option<bool> {
    let named = child.extensions.authority_key_id.as_ref()?;
    Some(named == issuer.extensions.subject_key_id.as_ref()?)
}

fn is_weak(certificate: &Certificate) -> bool {
    certificate.signature.hash.is_some_and(|hash| hash.is_md() || hash == Hash::Sha1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path as File;
    use std::time::Instant;

    use time::OffsetDateTime;

    use super::{Extra, find};
    use crate::tls::audit::tests::{certs, material};
    use crate::tls::audit::verify::Signed;
    use crate::tls::chain::Material;

    fn chain(names: &[&str]) -> Material {
        let pem: String =
            names.iter().map(|name| std::fs::read_to_string(certs(&format!("{name}.pem"))).unwrap()).collect();
        Material::from_pem(File::new("made.pem"), pem.as_bytes(), None)
    }

    #[test]
    fn of_two_issuers_of_one_name_the_one_whose_key_verifies_is_taken() {
        let material = chain(&["incomplete", "ca-impostor", "ca-issuing"]);
        let path = find(&material.certificates, 0, OffsetDateTime::UNIX_EPOCH);
        assert_eq!((path.members, path.links), (vec![0, 2], vec![Signed::Yes]));
        assert_eq!(path.extras, [(1, Extra::Unrelated)]);
    }

    #[test]
    fn the_signature_of_a_root_in_the_file_need_not_be_verified() {
        let path = find(&material("md5-root").certificates, 0, OffsetDateTime::UNIX_EPOCH);
        assert_eq!((path.verified(), path.served()), (&[0, 1][..], &[0, 1][..]));
    }

    #[test]
    fn a_file_of_thousands_of_certificates_is_searched_in_bounded_time() {
        let one = std::fs::read_to_string(certs("ca-md5-issuing.pem")).unwrap();
        let mut certificates = chain(&["md5-intermediate"]).certificates;
        let copy = Material::from_pem(File::new("made.pem"), one.as_bytes(), None).certificates.remove(0);
        for index in 0..3000u32 {
            // Another certificate of the same name and key, by a change of what no check looks at.
            let mut hostile = copy.clone();
            let mut der = hostile.der.to_vec();
            der.extend(index.to_be_bytes());
            hostile.der = der.into();
            certificates.push(hostile);
        }
        let begun = Instant::now();
        let path = find(&certificates, 0, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(path.members[..2], [0, 1]);
        assert!(begun.elapsed().as_secs() < 10);
    }
}
