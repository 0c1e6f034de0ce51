//! One order, from the names to the chain (RFC 8555, section 7.4).
//!
//! Called by `acme`, which bounds the whole of it in time. Answers to challenges are live while it waits for them.

use std::time::Duration;

use instant_acme::{Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier};
use instant_acme::{NewOrder, Order, OrderStatus, RetryPolicy};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use tracing::info;

use super::failure::Failure;
use super::https::Https;
use crate::config::ChallengeConfig;
use crate::metrics::AcmeFailure;
use crate::plan::acme::Managed;
use crate::tls::challenge::{Challenges, Offered};

/// How an order is asked after: soon at first, then less and less often, unless the authority says when.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_secs(120));

/// Who orders what.
pub(super) struct Ordering<'a> {
    pub(super) managed: &'a Managed,
    pub(super) account: &'a Account,
    pub(super) https: &'a Https,
    pub(super) challenges: &'a Arc<Challenges>,
    /// The certificate in whose place the new one comes.
    pub(super) replaced: Option<CertificateDer<'static>>,
}

impl Ordering<'_> {
    /// Orders a certificate; its key and chain as PEM.
    pub(super) async fn issue(&self) -> Result<String, Failure> {
        let mut order = self.place().await?;
        let offered = self.answer(&mut order).await?;
        let ready = order.poll_ready(&POLLING).await;
        drop(offered);
        match ready {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => return Err(self.refusal(&mut order).await),
            Err(error) => return Err(self.fault(&error)),
        }
        let (key, request) = request(&self.managed.names).map_err(|error| {
            Failure::new(AcmeFailure::Refused, format!("the certificate request cannot be made: {error}"))
        })?;
        order.finalize_csr(&request).await.map_err(|error| self.fault(&error))?;
        let chain = order.poll_certificate(&POLLING).await.map_err(|error| self.fault(&error))?;
        Ok(format!("{key}{chain}"))
    }

    fn fault(&self, error: &Error) -> Failure {
        Failure::of(error, &self.https.noted())
    }

    /// Says which certificate is replaced, if the authority wants to know (RFC 9773, section 5), and orders without it where
    /// it will not have that: the replacement was told of before, say, or it passes over the field.
    async fn place(&self) -> Result<Order, Failure> {
        let names: Vec<Identifier> = self.managed.names.iter().cloned().map(Identifier::Dns).collect();
        let order = || match &self.managed.authority.profile {
            Some(profile) => NewOrder::new(&names).profile(profile),
            None => NewOrder::new(&names),
        };
        if let Some(profile) = &self.managed.authority.profile {
            let offered: Vec<&str> = self.account.profiles().map(|offered| offered.name).collect();
            if !offered.contains(&profile.as_str()) {
                let message = format!("the authority has no profile {profile:?}; it has: {}", offered.join(", "));
                return Err(Failure::new(AcmeFailure::Refused, message));
            }
        }
        let replaced = self.replaced.as_ref().and_then(|leaf| CertificateIdentifier::try_from(leaf).ok());
        if let Some(replaced) = replaced {
            match self.account.new_order(&order().replaces(replaced)).await {
                Ok(order) => return Ok(order),
                Err(Error::Unsupported(_)) => {}
                Err(error) => {
                    let failure = self.fault(&error);
                    if failure.is_the_authoritys() {
                        return Err(failure);
                    }
                    info!(certificate = self.managed.name, "ordering without naming the one that is replaced: {error}");
                }
            }
        }
        self.account.new_order(&order()).await.map_err(|error| self.fault(&error))
    }

    /// Has the answer to every name's challenge live, then asks for the validation.
    async fn answer(&self, order: &mut Order) -> Result<Vec<Offered>, Failure> {
        let mut offered = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| self.fault(&error))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => {
                    let message = format!("{}: its authorization is {status:?}", authorization.identifier());
                    return Err(Failure::new(AcmeFailure::Challenge, message));
                }
            }
            let (kind, word) = match self.managed.authority.challenge {
                ChallengeConfig::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
                ChallengeConfig::Http01 => (ChallengeType::Http01, "http-01"),
            };
            let Some(mut challenge) = authorization.challenge(kind) else {
                let message = format!("the authority does not offer {word}; set another challenge");
                return Err(Failure::new(AcmeFailure::Challenge, message));
            };
            let answer = challenge.key_authorization();
            offered.push(match self.managed.authority.challenge {
                ChallengeConfig::Http01 => self.challenges.offer_http(&challenge.token, answer.as_str()),
                ChallengeConfig::TlsAlpn01 => {
                    let made = self.challenges.offer_tls(&challenge.identifier().to_string(), answer.digest().as_ref());
                    made.map_err(|error| Failure::new(AcmeFailure::Challenge, error))?
                }
            });
            challenge.set_ready().await.map_err(|error| self.fault(&error))?;
        }
        Ok(offered)
    }

    /// Why an order became invalid: what the authority says of each name that it could not validate.
    async fn refusal(&self, order: &mut Order) -> Failure {
        let mut found = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                break;
            }
            let errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            found.extend(errors.map(|error| format!("{}: {error}", authorization.identifier())));
        }
        if found.is_empty() {
            let error = order.state().error.as_ref().map(ToString::to_string);
            return Failure::new(AcmeFailure::Refused, error.unwrap_or_else(|| "the order became invalid".into()));
        }
        Failure::new(AcmeFailure::Challenge, found.join("; "))
    }
}

/// A new key as PEM, and a request for a certificate with it.
fn request(names: &[String]) -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    // The names are all that an authority may vouch for.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}
