//! The account with an authority: made once, then kept.
//!
//! Called by `acme` at the start of each attempt. The account's key never leaves its file and this process.

use std::fs;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::failure::Failure;
use super::https::Https;
use super::store::{self, Pending};
use crate::metrics::AcmeFailure;
use crate::plan::acme::{Authority, external_key};

/// The account's file, in the authority's folder.
const FILE: &str = "account.json";

/// What that file holds.
#[derive(Deserialize, Serialize)]
struct Kept {
    /// As the authority was last told.
    contact: Vec<String>,
    /// The account's URL and key, as the client library writes them.
    credentials: serde_json::Value,
}

/// The account that is kept, or a new one.
pub(super) async fn open(authority: &Authority, https: &Https) -> Result<Account, Failure> {
    let file = authority.folder.join(FILE);
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return make(authority, https).await,
        Err(error) => return Err(store::fault(&file, &error)),
    };
    // What serde says could quote the key.
    let damaged = |_| store::fault(&file, &"is damaged; move it away, and an account is made anew");
    let kept: Kept = serde_json::from_slice(&text).map_err(damaged)?;
    let credentials: AccountCredentials = serde_json::from_value(kept.credentials.clone()).map_err(damaged)?;
    let account = Account::builder_with_http(Box::new(https.clone())).from_credentials(credentials).await;
    let account = account.map_err(|error| Failure::of(&error, &https.noted()))?;
    if kept.contact != authority.contact {
        let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
        account.update_contacts(&contact).await.map_err(|error| Failure::of(&error, &https.noted()))?;
        keep(authority, kept.credentials)?;
    }
    Ok(account)
}

async fn make(authority: &Authority, https: &Https) -> Result<Account, Failure> {
    let external = match &authority.external_account {
        None => None,
        Some((id, file)) => {
            let key = external_key(file).map_err(|error| Failure::new(AcmeFailure::Storage, error))?;
            Some(ExternalAccountKey::new(id.clone(), &key))
        }
    };
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    // Whoever does not agree has no plan.
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let made = builder.create(&wanted, authority.directory.clone(), external.as_ref()).await;
    let (account, credentials) = made.map_err(|error| {
        let failure = Failure::of(&error, &https.noted());
        match failure.reason {
            AcmeFailure::Refused => Failure { reason: AcmeFailure::Account, ..failure },
            _ => failure,
        }
    })?;
    let credentials = serde_json::to_value(credentials).map_err(|_| store::fault(&authority.folder, &"no JSON"))?;
    keep(authority, credentials)?;
    info!(authority = authority.name, "made an account: {}", account.id());
    Ok(account)
}

fn keep(authority: &Authority, credentials: serde_json::Value) -> Result<(), Failure> {
    let file = authority.folder.join(FILE);
    let kept = serde_json::to_vec(&Kept { contact: authority.contact.clone(), credentials });
    Pending::write(&file, &kept.map_err(|error| store::fault(&file, &error))?)?.commit()
}

/// Puts aside an account that the authority no longer knows, so that the next attempt makes another.
pub(super) fn forget(authority: &Authority) {
    let file = authority.folder.join(FILE);
    let aside = file.with_extension("json.gone");
    match fs::rename(&file, &aside) {
        Ok(()) => warn!(
            authority = authority.name,
            "the authority no longer knows the account; it is kept in {} and \
            another is made",
            aside.display()
        ),
        Err(error) => warn!(authority = authority.name, "{}: cannot be moved aside: {error}", file.display()),
    }
}
