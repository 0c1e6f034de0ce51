//! Finds the path: from the leaf to its issuer, to that one's issuer, by verifying signatures.
//!
//! Names and key identifiers place a certificate only where its signature's algorithm cannot be computed. Where a file
//! allows several paths, as with cross-signed issuers, the soundest as a whole is taken. The work is bounded, since a
//! file may be hostile. The rules in `chain`, `signature`, `issuer` and the rest look at the result.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;

use crate::tls::audit::verify::{Signed, signed_by};
use crate::tls::certificate::Certificate;
use crate::tls::key::Hash;

/// The longest path; the longest honest ones have five certificates.
const MAX_PATH: usize = 20;
/// How many whole paths are compared.
const MAX_PATHS: usize = 64;
/// How many certificates are tried as an issuer under another name.
const MAX_RENAMED: usize = 20;
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
    /// Whether the leaf is alone, names itself as its issuer, and has a signature that its own key did not make.
    pub(super) forged: bool,
    /// Other certificates for issuers on the path, by other authorities, fit to be served after it.
    pub(super) alternates: Vec<usize>,
    /// Members that signed the one before them, and whose name is not the one that it gives its issuer.
    pub(super) renamed: Vec<usize>,
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
    /// It is another certificate of an issuer on the path, by the same authority: older, or newer.
    Renewed,
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
    search.follow(&mut vec![leaf], &mut Vec::new());
    let trail = search.best.take().map_or_else(|| Trail::new(&[leaf], &[], false), |(_, trail)| trail);
    let alone = &certificates[leaf];
    // With another key identifier for its issuer, the issuer is another one of its name.
    let own = alone.is_self_issued() && key_ids_agree(alone, alone) != Some(false);
    let mut path = Path {
        renamed: search.renamed(&trail.members),
        forged: own && trail.members.len() == 1 && !trail.anchored,
        members: trail.members,
        links: trail.links,
        anchored: trail.anchored,
        alternates: Vec::new(),
        extras: Vec::new(),
    };
    search.sort_the_rest(&mut path);
    path
}

/// A whole path, as the search walked it.
struct Trail {
    members: Vec<usize>,
    links: Vec<Signed>,
    anchored: bool,
}

impl Trail {
    fn new(members: &[usize], links: &[Signed], anchored: bool) -> Self {
        Self { members: members.to_vec(), links: links.to_vec(), anchored }
    }
}

/// How sound a path is; the least is the best: without doubt, with most valid certificates, without weak signatures.
type Rank = (usize, usize, usize);

struct Search<'a> {
    certificates: &'a [Certificate],
    now: OffsetDateTime,
    by_subject: HashMap<&'a [u8], Vec<usize>>,
    duplicates: HashSet<usize>,
    /// Whether one certificate, by its number, was signed by another.
    signed: HashMap<(usize, usize), Signed>,
    computed: usize,
    walked: usize,
    best: Option<(Rank, Trail)>,
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
        let signed = HashMap::new();
        Self { certificates, now, by_subject, duplicates, signed, computed: 0, walked: 0, best: None }
    }

    /// Follows every path from the last member on, the likeliest issuer first; as deep as paths are long.
    fn follow(&mut self, members: &mut Vec<usize>, links: &mut Vec<Signed>) {
        let Some(last) = members.last().copied() else { return };
        let anchored = self.signed_itself(last);
        let full = anchored || members.len() >= MAX_PATH;
        let issuers = if full { Vec::new() } else { self.issuers_of(last, members) };
        if issuers.is_empty() {
            self.compare(Trail::new(members, links, anchored));
        }
        for (issuer, link) in issuers {
            if self.walked >= MAX_PATHS {
                break;
            }
            members.push(issuer);
            links.push(link);
            self.follow(members, links);
            members.pop();
            links.pop();
        }
    }

    /// Keeps the better of two paths; of equals, the one that was walked first.
    fn compare(&mut self, trail: Trail) {
        self.walked += 1;
        let certificates = |count: usize| trail.members.iter().take(count).map(|index| &self.certificates[*index]);
        let doubts = trail.links.iter().filter(|link| **link != Signed::Yes).count();
        let invalid =
            certificates(trail.members.len()).filter(|certificate| !certificate.is_valid_at(self.now)).count();
        let weak = certificates(trail.members.len() - usize::from(trail.anchored)).filter(|it| is_weak(it)).count();
        let rank = (doubts, invalid, weak);
        if self.best.as_ref().is_none_or(|(best, _)| rank < *best) {
            self.best = Some((rank, trail));
        }
    }

    fn signed(&mut self, child: usize, issuer: usize) -> Signed {
        if let Some(known) = self.signed.get(&(child, issuer)) {
            return *known;
        }
        self.computed += 1;
        if self.computed > MAX_VERIFICATIONS {
            return Signed::Unknown;
        }
        let signed = signed_by(&self.certificates[child], &self.certificates[issuer]);
        self.signed.insert((child, issuer), signed);
        signed
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

    /// The issuers in the file, the likeliest first: every one whose key verifies, else the one that cannot be ruled out,
    /// else the one by name alone.
    fn issuers_of(&mut self, child: usize, members: &[usize]) -> Vec<(usize, Signed)> {
        let named = self.by_subject.get(self.certificates[child].raw.issuer.as_slice()).cloned().unwrap_or_default();
        let free = |index: &usize| *index != child && !members.contains(index);
        let mut judged: Vec<(usize, Signed)> =
            named.iter().copied().filter(free).map(|index| (index, self.signed(child, index))).collect();
        if judged.iter().all(|(_, signed)| *signed == Signed::No) {
            let renamed: Vec<usize> =
                self.kin_of(child).into_iter().filter(|index| free(index) && !named.contains(index)).collect();
            let found = renamed.into_iter().find(|index| self.signed(child, *index) == Signed::Yes);
            judged.extend(found.map(|index| (index, Signed::Yes)));
        }
        judged.sort_by_key(|(index, signed)| self.preference(child, *index, *signed));
        let sure = judged.iter().filter(|(_, signed)| *signed == Signed::Yes).count();
        judged.truncate(sure.max(1));
        judged
    }

    /// Authorities that may be the issuer under another name: their key identifier is the one that is named.
    fn kin_of(&self, child: usize) -> Vec<usize> {
        let kin = |index: &usize| {
            let issuer = &self.certificates[*index];
            issuer.extensions.ca && key_ids_agree(&self.certificates[child], issuer) != Some(false)
        };
        (0..self.certificates.len()).filter(kin).take(MAX_RENAMED).collect()
    }

    /// The members whose name is not the one that the member before them gives its issuer.
    fn renamed(&self, members: &[usize]) -> Vec<usize> {
        let differs = |pair: &&[usize]| {
            let [child, issuer] = [pair[0], pair[1]].map(|index| &self.certificates[index].raw);
            child.issuer != issuer.subject
        };
        members.windows(2).filter(differs).map(|pair| pair[1]).collect()
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
            let mut issuers = issuers.map(|member| &self.certificates[*member]);
            let again = issuers.find(|member| member.is_same_entity(certificate));
            let renewed = again.is_some_and(|member| member.raw.issuer == certificate.raw.issuer);
            let extra = match () {
                () if self.duplicates.contains(&index) => Extra::Duplicate,
                () if certificate.not_after < self.now => Extra::Expired,
                () if renewed => Extra::Renewed,
                () if again.is_some()
                    && !certificate.is_self_issued()
                    && certificate.extensions.ca
                    && !is_weak(certificate) =>
                {
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
