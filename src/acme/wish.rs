//! What an operator can ask of the keeper: to renew a certificate now, and to revoke the one before.
//!
//! Made by `gateway`; `admin/control.rs` asks, `acme` answers.

use instant_acme::RevocationReason;
use tokio::sync::{mpsc, oneshot};

use crate::plan::AcmePlan;
use crate::plan::acme::Managed;
use crate::reload::Failure;

/// How many wishes may wait while one order is under way.
const WAITING: usize = 4;

/// Asks the keeper.
#[derive(Clone)]
pub(crate) struct Renewals(mpsc::Sender<Wish>);

/// The keeper's end.
pub(crate) type Wishes = mpsc::Receiver<Wish>;

/// A certificate to be renewed now.
pub(crate) struct Wish {
    /// Its name, with or without its authority's before it.
    pub(super) name: String,
    /// Why the one before is to be revoked once the new one is served, if it is.
    pub(super) revoke: Option<Reason>,
    pub(super) answer: oneshot::Sender<Result<String, Failure>>,
}

/// Why a certificate is revoked (RFC 5280, section 5.3.1), as far as its holder can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Reason {
    /// Another takes its place
    Superseded,
    /// Somebody else has, or may have, its key
    KeyCompromise,
}

impl Reason {
    const ALL: [(&'static str, Self); 2] = [("superseded", Self::Superseded), ("key-compromise", Self::KeyCompromise)];

    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, reason)| *reason == self).map_or("", |(word, _)| word)
    }

    /// What a word stands for.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, reason)| *reason)
    }

    pub(super) fn code(self) -> RevocationReason {
        match self {
            Self::Superseded => RevocationReason::Superseded,
            Self::KeyCompromise => RevocationReason::KeyCompromise,
        }
    }
}

/// A way to ask, and the end that answers.
pub(crate) fn channel() -> (Renewals, Wishes) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Renewals(sender), receiver)
}

impl Renewals {
    /// Renews a certificate, and waits for the outcome: a sentence, or why there is no new one.
    pub(crate) async fn renew(&self, name: String, revoke: Option<Reason>) -> Result<String, Failure> {
        let (answer, answered) = oneshot::channel();
        let stopped = || Failure::new("the gateway is stopping");
        self.0.send(Wish { name, revoke, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Wish {
    /// The certificate that is meant.
    pub(super) fn find<'a>(&self, plan: &'a AcmePlan) -> Result<&'a Managed, Failure> {
        let full = |managed: &Managed| format!("{}/{}", managed.authority.name, managed.name);
        let is_meant = |managed: &&Managed| self.name.eq_ignore_ascii_case(&managed.name) || full(managed) == self.name;
        let all = || plan.certificates.iter().map(|managed| &**managed);
        let found: Vec<&Managed> = all().filter(is_meant).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => {
                let names: Vec<String> = all().map(full).collect();
                let known = if names.is_empty() { "none".into() } else { names.join(", ") };
                Err(Failure::new(format!("no certificate called {:?} is managed; there are: {known}", self.name)))
            }
            several => {
                let names: Vec<String> = several.iter().map(|managed| full(managed)).collect();
                Err(Failure::new(format!("{:?} may be {}; give the authority too", self.name, names.join(" or "))))
            }
        }
    }
}
