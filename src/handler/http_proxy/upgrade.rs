//! Upgrades: a request that asks to change protocols (RFC 9110, section 7.8), such as to WebSocket.
//!
//! Only the upstream's 101 switches, and no byte of the client's passes before it. `http_proxy` finds out here whether a
//! request asks, and hands over both ends once the upstream agreed.

use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::{Response, Version};

use super::response::ProxyBody;
use super::{response, via};
use crate::fields::{has_token, tokens};
use crate::handler::http::{Upgrade, upgrade};
use crate::relay::relay;
use crate::upstream::Tunnel;

/// The protocols that a request asks to switch to; `None` where it does not ask, or not in a way that is passed on:
/// over HTTP/2, with a body, to nothing, or to what carries HTTP again, such as h2c or TLS (RFC 2817), which would let requests pass
/// unseen.
pub(super) fn asked(head: &Parts, has_body: bool) -> Option<HeaderValue> {
    if head.version != Version::HTTP_11 || has_body || !has_token(&head.headers, &CONNECTION, "upgrade") {
        return None;
    }
    let mut lines = head.headers.get_all(UPGRADE).iter();
    let protocol = lines.next().filter(|_| lines.next().is_none())?;
    (tokens(protocol).next().is_some() && !tokens(protocol).any(carries_http)).then(|| protocol.clone())
}

/// Whether requests would pass within the protocol.
fn carries_http(protocol: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 5] = [b"h2", b"h3", b"http", b"shttp", b"tls"];
    PREFIXES.iter().any(|prefix| protocol.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

/// The client's end of an upgrade that the upstream has yet to agree to.
pub(super) struct Pending {
    client: Upgrade,
    protocol: HeaderValue,
}

impl Pending {
    /// Takes the client's end from a request's extensions.
    pub(super) fn take(head: &mut Parts, protocol: HeaderValue) -> Option<Self> {
        Some(Self { client: upgrade(&mut head.extensions)?, protocol })
    }

    /// What the client offered to switch to.
    pub(super) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }

    /// Answers the upstream's 101 and relays from then on.
    pub(super) fn switch(self, switched: Response<()>, mut tunnel: Tunnel, via: &via::Name) -> Response<ProxyBody> {
        let agreed = switched.headers().get(UPGRADE).cloned();
        let mut response = switched.map(|()| ProxyBody::Text(None));
        response::pass_back(&mut response, via);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().extend(agreed.map(|protocol| (UPGRADE, protocol)));
        // The engine keeps the connection in flight for as long as the client's end lives.
        let idle = self.client.timeouts.idle; // how long not a byte may pass
        tokio::spawn(async move {
            // The client's end comes once the 101 is written. A client that is gone by then leaves nothing to relay.
            if let Ok(mut client) = self.client.await {
                let relayed = relay(&mut client, &mut tunnel, idle).await;
                if relayed.broken.is_some() {
                    client.abort();
                    tunnel.abort();
                }
            }
        });
        response
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hyper::Request;

    use super::*;

    fn asked_with(version: Version, lines: &[(&str, &str)], has_body: bool) -> Option<HeaderValue> {
        let mut request = Request::builder().version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        asked(&request.body(()).unwrap().into_parts().0, has_body)
    }

    #[test]
    fn a_request_asks_to_switch_when_both_fields_say_so() {
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(asked_with(Version::HTTP_11, &both, false).unwrap(), "websocket");
        assert!(asked_with(Version::HTTP_11, &both[1..], false).is_none());
        assert!(asked_with(Version::HTTP_11, &both[..1], false).is_none());
    }

    #[test]
    fn an_upgrade_over_http_2_with_a_body_or_to_what_carries_http_is_an_ordinary_request() {
        let to = |protocol| [("connection", "upgrade"), ("upgrade", protocol)];
        assert!(asked_with(Version::HTTP_2, &to("websocket"), false).is_none());
        assert!(asked_with(Version::HTTP_11, &to("websocket"), true).is_none());
        for carrier in ["websocket, H2C", "TLS/1.0, HTTP/1.1", "HTTP/2.0", "h3"] {
            assert!(asked_with(Version::HTTP_11, &to(carrier), false).is_none(), "{carrier}");
        }
    }
}
