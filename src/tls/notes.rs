//! What is learnt in the course of one handshake by parts that rustls calls apart from each other.
//!
//! `connection` runs every handshake within [`taking`]. The verifier notes the client's chain, from which `tickets` makes
//! the session's ticket; the signing key notes the scheme that it signed with, which is counted. Without the notes there
//! would be no way from one to the other: rustls hands neither of them the connection.

use std::cell::RefCell;
use std::future::Future;

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;

/// A handshake's notes.
#[derive(Debug, Default)]
pub struct Notes {
    /// The scheme that the gateway signed the handshake with; `None` where a session was resumed.
    pub signed: Option<SignatureScheme>,
    /// The client's chain, verified.
    pub(super) client: Vec<CertificateDer<'static>>,
    /// When the session began that was resumed, in Unix time.
    pub(super) begun: Option<u64>,
}

tokio::task_local! {
    static NOTES: RefCell<Notes>;
}

/// Runs a handshake, and hands out what was noted in its course.
pub async fn taking<T>(handshake: impl Future<Output = T>) -> (T, Notes) {
    NOTES
        .scope(RefCell::default(), async {
            let outcome = handshake.await;
            (outcome, NOTES.with(RefCell::take))
        })
        .await
}

/// Notes that the client's chain was verified.
pub(super) fn set_client_chain(chain: Vec<CertificateDer<'static>>) {
    with(|notes| notes.client = chain);
}

/// Looks at, or adds to, the notes of the handshake that is being worked on; `None` where none are taken.
pub(super) fn with<T>(look: impl FnOnce(&mut Notes) -> T) -> Option<T> {
    NOTES.try_with(|notes| look(&mut notes.borrow_mut())).ok()
}
