//! Evidence for deprecation: what the clients of an endpoint use, when each was last used, and by how many of them.
//!
//! `connection` notes every completed handshake, in its worker's slot; `admin` brings the slots together, so that an
//! operator knows what turning something off would break. Memory is bounded: the set of features is closed, and distinct
//! clients are estimated by HyperLogLog (Flajolet and others, 2007), within about 3%.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, OnceLock};

use crate::access::one_client;
use crate::identity::{Group, Signature, TlsInfo, TlsVersion};
use crate::metrics::Counter;

/// Something that a handshake may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// TLS at all.
    Any,
    /// A protocol version.
    Version(TlsVersion),
    /// A key-exchange group.
    Group(Group),
    /// A scheme that the gateway signs with.
    Signature(Signature),
    /// Resuming a session.
    Resumption,
    /// A client certificate.
    ClientCertificate,
}

const VERSIONS: usize = 1;
const GROUPS: usize = VERSIONS + TlsVersion::ALL.len();
const SIGNATURES: usize = GROUPS + Group::ALL.len();
const RESUMPTION: usize = SIGNATURES + Signature::ALL.len();
const CERTIFICATE: usize = RESUMPTION + 1;
const FEATURES: usize = CERTIFICATE + 1;

impl Feature {
    /// Every feature.
    pub fn all() -> impl Iterator<Item = Self> {
        let versions = TlsVersion::ALL.iter().copied().map(Self::Version);
        let groups = Group::ALL.iter().copied().map(Self::Group);
        let signatures = Signature::ALL.iter().copied().map(Self::Signature);
        let rest = [Self::Resumption, Self::ClientCertificate];
        std::iter::once(Self::Any).chain(versions).chain(groups).chain(signatures).chain(rest)
    }

    /// Its kind and its value, as labels.
    #[must_use]
    pub fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Any => ("any", "any"),
            Self::Version(version) => ("version", version.as_str()),
            Self::Group(group) => ("group", group.as_str()),
            Self::Signature(signature) => ("signature", signature.as_str()),
            Self::Resumption => ("resumption", "ticket"),
            Self::ClientCertificate => ("client_certificate", "presented"),
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Any => 0,
            Self::Version(version) => VERSIONS + version as usize,
            Self::Group(group) => GROUPS + group as usize,
            Self::Signature(signature) => SIGNATURES + signature as usize,
            Self::Resumption => RESUMPTION,
            Self::ClientCertificate => CERTIFICATE,
        }
    }
}

/// A worker's evidence of one endpoint.
#[derive(Debug)]
pub struct Evidence([Use; FEATURES]);

/// How one feature was used.
#[derive(Debug, Default)]
pub struct Use {
    /// In how many handshakes.
    pub handshakes: Counter,
    /// When last, in Unix time; 0 for never.
    last: AtomicU64,
    clients: Sketch,
}

impl Default for Evidence {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Use::default()))
    }
}

impl Evidence {
    /// Notes a completed handshake with a client, at a moment in Unix time.
    pub fn note(&self, tls: &TlsInfo, client: IpAddr, now: u64) {
        let hash = hash(client);
        let always = [Feature::Any, Feature::Version(tls.version), Feature::Group(tls.group)];
        let sometimes = [
            tls.signature.map(Feature::Signature),
            tls.resumed.then_some(Feature::Resumption),
            tls.client_certificate.is_some().then_some(Feature::ClientCertificate),
        ];
        for feature in always.into_iter().chain(sometimes.into_iter().flatten()) {
            let used = self.of(feature);
            used.handshakes.add(1);
            used.last.store(now, Relaxed);
            used.clients.note(hash);
        }
    }

    /// How a feature was used.
    #[must_use]
    pub fn of(&self, feature: Feature) -> &Use {
        &self.0[feature.index()]
    }
}

/// What the slots of all workers say of a feature together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// In how many handshakes it was used.
    pub handshakes: u64,
    /// When last, in Unix time; 0 for never.
    pub last: u64,
    /// About how many clients used it, by address.
    pub clients: u64,
}

impl Sum {
    /// Brings slots together.
    pub fn of<'a>(slots: impl Iterator<Item = &'a Evidence>, feature: Feature) -> Self {
        let (mut sum, mut registers) = (Self { handshakes: 0, last: 0, clients: 0 }, [0; REGISTERS]);
        for used in slots.map(|slot| slot.of(feature)) {
            sum.handshakes = sum.handshakes.wrapping_add(used.handshakes.get());
            sum.last = sum.last.max(used.last.load(Relaxed));
            used.clients.merge_into(&mut registers);
        }
        sum.clients = estimate(&registers);
        sum
    }
}

/// How many registers a sketch has; the error is 1.04 by the root of it.
const REGISTERS: usize = 1024;
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();

/// About how many distinct things were noted: 1 KiB, from the first one on. One writer, any readers.
#[derive(Debug, Default)]
struct Sketch(OnceLock<Box<[AtomicU8; REGISTERS]>>);

impl Sketch {
    fn note(&self, hash: u64) {
        let registers = self.0.get_or_init(|| Box::new([const { AtomicU8::new(0) }; REGISTERS]));
        let register = &registers[(hash >> (u64::BITS - INDEX_BITS)) as usize];
        // At least one, so that 0 means that nothing was noted there.
        let rank = ((hash << INDEX_BITS).leading_zeros().min(u64::BITS - INDEX_BITS) + 1) as u8;
        if register.load(Relaxed) < rank {
            register.store(rank, Relaxed);
        }
    }

    fn merge_into(&self, all: &mut [u8; REGISTERS]) {
        for (merged, own) in all.iter_mut().zip(self.0.get().into_iter().flat_map(|own| own.iter())) {
            *merged = (*merged).max(own.load(Relaxed));
        }
    }
}

fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let m = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| 2f64.powi(-i32::from(*rank))).sum();
    let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    // Few of them are better counted by the registers that they left empty.
    let clients = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
    clients.round() as u64
}

/// A client's hash, by keys that nobody knows: no client can choose its place.
fn hash(client: IpAddr) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(one_client(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(version: TlsVersion, resumed: bool) -> TlsInfo {
        TlsInfo {
            version,
            cipher: "",
            group: Group::X25519,
            signature: (!resumed).then_some(Signature::EcdsaP256),
            alpn: None,
            server_name: None,
            resumed,
            handshake: std::time::Duration::ZERO,
            client_certificate: None,
            scope: None,
        }
    }

    fn client(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn every_feature_has_a_place_and_a_name_of_its_own() {
        let all: Vec<Feature> = Feature::all().collect();
        assert_eq!(all.len(), FEATURES);
        for (index, feature) in all.iter().enumerate() {
            assert_eq!(feature.index(), index);
            assert!(all[..index].iter().all(|other| other.labels() != feature.labels()), "{feature:?}");
        }
    }

    #[test]
    fn slots_add_up_and_a_client_of_several_workers_counts_once() {
        let slots = [Evidence::default(), Evidence::default()];
        for slot in &slots {
            slot.note(&tls(TlsVersion::V12, false), client(1), 50);
            slot.note(&tls(TlsVersion::V13, true), client(2), 40);
        }
        slots[1].note(&tls(TlsVersion::V12, false), client(3), 55);
        let sum = |feature| Sum::of(slots.iter(), feature);
        let any = sum(Feature::Any);
        // Two of them may fall into one register.
        assert!(any.handshakes == 5 && any.last == 55 && (2..=3).contains(&any.clients), "{any:?}");
        let old = sum(Feature::Version(TlsVersion::V12));
        assert!(old.handshakes == 3 && old.last == 55 && (1..=2).contains(&old.clients), "{old:?}");
        assert_eq!(sum(Feature::Resumption), Sum { handshakes: 2, last: 40, clients: 1 });
        assert_eq!(sum(Feature::Signature(Signature::EcdsaP256)).handshakes, 3);
        assert_eq!(sum(Feature::ClientCertificate), Sum { handshakes: 0, last: 0, clients: 0 });
    }

    #[test]
    fn clients_are_estimated_within_a_tenth_from_one_to_a_million() {
        for many in [1u32, 10, 100, 1000, 10_000, 1_000_000] {
            let sketch = Sketch::default();
            (0..many).for_each(|n| sketch.note(hash(client(n))));
            let mut registers = [0; REGISTERS];
            sketch.merge_into(&mut registers);
            let (found, real) = (estimate(&registers) as f64, f64::from(many));
            // Three times the standard error; the keys are random.
            assert!((found - real).abs() <= (real * 0.12).max(1.0), "{found} for {real}");
        }
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let hash = |text: &str| hash(text.parse().unwrap_or(client(0)));
        assert_eq!(hash("2001:db8::1"), hash("2001:db8::ffff:1"));
        assert_ne!(hash("2001:db8::1"), hash("2001:db8:0:1::1"));
        assert_eq!(hash("::ffff:192.0.2.1"), hash("192.0.2.1"));
    }
}
