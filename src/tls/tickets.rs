//! Session tickets: what a client is given to resume its session with, and the keys that seal it.
//!
//! Made by `plan` for each endpoint; rustls asks a `ScopeTickets` at every handshake. The keys are the endpoint's own
//! and change by themselves, or come from a file that a fleet shares (`key_file`). What an endpoint seals with is derived
//! from them together with its name and its client-authentication settings, so that no session leads to another endpoint
//! or past other settings, whoever shares the file (CVE-2025-23419). A ticket carries the client's chain, which is
//! verified again, with today's revocation lists, before the session is resumed; what fails gets a full handshake, in
//! which the client is told why.

pub mod key_file;
mod ticket;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Guard};
use aws_lc_rs::aead::{AES_256_GCM_SIV, RandomizedNonceKey};
use aws_lc_rs::{hkdf, rand};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier as _;
use serde::Serialize;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use self::key_file::{KeyFile, Secret};
use self::ticket::{Session, read, write};
use super::audit::finding::Moment;
use super::client_auth::{ClientAuth, Verifier};
use super::notes;
use crate::identity::EndpointName;
use crate::metrics::EndpointMetrics;

/// The longest that a ticket may be good for (RFC 9846, section 4.6.1).
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The shortest: a session that ends sooner is not worth its ticket.
pub const SHORTEST: Duration = Duration::from_secs(60);

/// One endpoint's ticket keys.
#[derive(Debug)]
pub struct Tickets {
    endpoint: EndpointName,
    /// A digest of the client-authentication settings of each scope.
    scopes: Vec<[u8; 32]>,
    /// The file that the keys are from; `None`: they are the endpoint's own.
    file: Option<String>,
    /// How long a session can be resumed, in seconds.
    lifetime: u64,
    ring: ArcSwap<Ring>,
    metrics: Arc<EndpointMetrics>,
}

/// The keys of this moment; the first one seals, and all of them open.
#[derive(Debug)]
struct Ring {
    keys: Vec<Arc<Key>>,
    /// When the next one is due, in Unix time.
    due: u64,
}

#[derive(Debug)]
struct Key {
    /// Tells which key sealed a ticket; derived from the key, so that gateways that share it agree.
    id: [u8; ID],
    /// Since when it is in use, in Unix time.
    since: u64,
    /// What each scope seals with.
    scopes: Vec<RandomizedNonceKey>,
}

/// The length of a key's id, in bytes.
const ID: usize = 16;

impl Tickets {
    /// Keys of the endpoint's own, or those of `file`, for scopes with these settings.
    ///
    /// # Errors
    /// No random bytes could be had.
    pub fn new(
        endpoint: EndpointName,
        scopes: &[Option<ClientAuth>],
        file: Option<&KeyFile>,
        lifetime: Duration,
        metrics: Arc<EndpointMetrics>,
    ) -> Result<Self, rustls::Error> {
        let scopes = scopes.iter().map(|auth| auth.as_ref().map_or([0; 32], |auth| *auth.digest())).collect();
        let mut tickets = Self {
            endpoint,
            scopes,
            file: file.map(|file| file.path.display().to_string()),
            lifetime: lifetime.clamp(SHORTEST, LONGEST).as_secs(),
            ring: ArcSwap::from_pointee(Ring { keys: Vec::new(), due: 0 }),
            metrics,
        };
        let ring = match file {
            Some(file) => {
                let keys = file.secrets.iter().map(|secret| tickets.key(secret, file.modified)).collect::<Option<_>>();
                keys.map(|keys| Ring { keys, due: u64::MAX })
            }
            None => tickets.turned(&[], unix(SystemTime::now())),
        };
        tickets.ring = ArcSwap::from_pointee(ring.ok_or(rustls::Error::FailedToGetRandomBytes)?);
        Ok(tickets)
    }

    /// Whether these, which are the endpoint's own, do for one whose tickets would be `next`.
    #[must_use]
    pub fn can_go_on_as(&self, next: &Self) -> bool {
        let own = self.file.is_none() && next.file.is_none();
        own && (&self.endpoint, &self.scopes, self.lifetime) == (&next.endpoint, &next.scopes, next.lifetime)
    }

    /// What rustls asks for tickets in one scope, whose client authentication is `auth`.
    pub(super) fn of_scope(self: &Arc<Self>, scope: usize, auth: Option<&ClientAuth>) -> ScopeTickets {
        ScopeTickets { tickets: Arc::clone(self), scope, verifier: auth.map(|auth| Arc::clone(auth.verifier())) }
    }

    /// The keys as they may be shown.
    #[must_use]
    pub fn view(&self) -> TicketsView {
        let ring = self.ring(unix(SystemTime::now()));
        let moment = |seconds: u64| {
            let moment = i64::try_from(seconds).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
            moment.map(Moment)
        };
        let keys = ring.keys.iter().enumerate().map(|(index, key)| KeyView {
            id: key.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            seals: index == 0,
            since: moment(key.since),
        });
        TicketsView {
            file: self.file.clone(),
            lifetime_seconds: self.lifetime,
            next_key_due: moment(ring.due).filter(|_| self.file.is_none()),
            keys: keys.collect(),
        }
    }

    /// Since when the key that seals is in use, in Unix time.
    #[must_use]
    pub fn key_since(&self) -> u64 {
        self.ring(unix(SystemTime::now())).keys.first().map_or(0, |key| key.since)
    }

    /// The keys of this moment. Whoever first finds the next one due makes it; nobody waits.
    fn ring(&self, now: u64) -> Guard<Arc<Ring>> {
        let ring = self.ring.load();
        if now < ring.due {
            return ring;
        }
        let Some(next) = self.turned(&ring.keys, now) else { return ring };
        let before = self.ring.compare_and_swap(&*ring, Arc::new(next));
        if Arc::ptr_eq(&before, &ring) {
            self.metrics.here().ticket_key_rotations.add(1);
        }
        self.ring.load()
    }

    /// A new key, before those whose tickets are still good. What it is derived from is forgotten at once.
    fn turned(&self, keys: &[Arc<Key>], now: u64) -> Option<Ring> {
        let mut secret: Secret = Zeroizing::new(vec![0; 48]);
        rand::fill(&mut secret).ok()?;
        let turn = self.lifetime / 2;
        let open = keys.iter().filter(|key| now < key.since.saturating_add(turn + self.lifetime));
        let keys = std::iter::once(self.key(&secret, now)?).chain(open.cloned()).collect();
        Some(Ring { keys, due: now.saturating_add(turn) })
    }

    /// Derives what each scope seals with; `None` only if the library fails.
    fn key(&self, secret: &Secret, since: u64) -> Option<Arc<Key>> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis session tickets 1").extract(secret);
        let mut id = [0; ID];
        secret.expand(&[b"id"], Length(ID)).ok()?.fill(&mut id).ok()?;
        let name = self.endpoint.as_str().as_bytes();
        let scopes = self.scopes.iter().map(|scope| {
            let mut key = Zeroizing::new([0; 32]);
            secret.expand(&[b"key", scope, name], Length(key.len())).ok()?.fill(&mut *key).ok()?;
            RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key).ok()
        });
        let scopes = scopes.collect::<Option<_>>()?;
        Some(Arc::new(Key { id, since, scopes }))
    }
}

/// How many bytes to derive.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn unix(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// An endpoint's ticket keys, without what is secret.
#[derive(Debug, Serialize)]
pub struct TicketsView {
    /// The file that they are from; `None`: they are the endpoint's own.
    pub file: Option<String>,
    /// How long a session can be resumed.
    pub lifetime_seconds: u64,
    /// When the next key will be made; `None` where they are from a file.
    pub next_key_due: Option<Moment>,
    /// Every key that opens tickets.
    pub keys: Vec<KeyView>,
}

/// One key, without what is secret.
#[derive(Debug, Serialize)]
pub struct KeyView {
    /// Its name: equal where keys are equal.
    pub id: String,
    /// Whether new tickets are sealed with it.
    pub seals: bool,
    /// Since when it is in use; of a key from a file, when the file was last changed.
    pub since: Option<Moment>,
}

/// The tickets of one scope.
#[derive(Debug)]
pub(super) struct ScopeTickets {
    tickets: Arc<Tickets>,
    scope: usize,
    verifier: Option<Arc<Verifier>>,
}

impl ScopeTickets {
    /// Whether the client whose session this was would be let in today.
    fn admits(&self, session: &Session<'_>) -> bool {
        match &self.verifier {
            None => session.client.is_empty(),
            Some(verifier) if session.client.is_empty() => !verifier.client_auth_mandatory(),
            Some(verifier) => verifier.verify(&session.client, UnixTime::now()).is_ok(),
        }
    }
}

impl ProducesTickets for ScopeTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.tickets.lifetime).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        let now = unix(SystemTime::now());
        let ring = self.tickets.ring(now);
        let key = ring.keys.first()?;
        // A session that is resumed again and again ends when the first one would have.
        let plain = notes::with(|notes| write(notes.begun.unwrap_or(now), &notes.client, state))??;
        ticket::seal(&key.scopes[self.scope], &key.id, plain)
    }

    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let now = unix(SystemTime::now());
        let ring = self.tickets.ring(now);
        let key = ring.keys.iter().find(|key| sealed.starts_with(&key.id))?;
        let plain = ticket::open(&key.scopes[self.scope], &key.id, sealed)?;
        let session = read(&plain)?;
        if now.saturating_sub(session.begun) > self.tickets.lifetime || !self.admits(&session) {
            return None;
        }
        notes::with(|notes| {
            notes.begun = Some(session.begun);
            notes.client = session.client.iter().map(|der| der.clone().into_owned()).collect();
        })?;
        Some(session.state.to_vec())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests;
