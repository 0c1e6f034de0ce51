//! Tells people which chain is served, and why each other one is not.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::decide::{Decision, decide, ranked};
use super::names::covers;
use super::{Audited, AuditedChain};
use crate::config::OnUnfit;
use crate::server_names::without_final_dot;

/// The story of an endpoint's chains, for one name that a client may ask for, or for a client that asks for none.
#[must_use]
pub fn explain(audited: &[Audited], on_unfit: OnUnfit, server_names: &[String], sni: Option<&str>) -> String {
    let mut text = String::new();
    // Clients send no address as a server's name (RFC 6066, section 3).
    let sni = sni.map(without_final_dot).filter(|sni| sni.parse::<IpAddr>().is_err());
    let decision = decide(audited, on_unfit, server_names);
    let candidates: &[_] = match &decision {
        Decision::Serve { candidates, .. } => candidates,
        Decision::Refuse { .. } => &[],
    };
    let candidates: Vec<&AuditedChain> = candidates.iter().map(AsRef::as_ref).collect();
    let fitting = sni.map_or_else(|| candidates.first().copied(), |sni| fitting(&candidates, sni));
    let served = fitting.or(candidates.first().copied());
    headline(&mut text, served, sni, fitting.is_none());
    if let Decision::Refuse { reasons } = &decision {
        for reason in reasons {
            let _ = writeln!(text, "  {reason}");
        }
    }
    for (place, index) in ranked(audited).into_iter().enumerate() {
        let chain = &audited[index];
        let _ =
            writeln!(text, "{}. {} (listed as {}, {})", place + 1, chain.report.file, index + 1, chain.report.verdict);
        let _ = writeln!(text, "   {}", fate(chain, served, &decision, sni));
        for finding in chain.report.findings.iter().filter(|finding| finding.level > super::Level::Info) {
            let _ = writeln!(text, "   {:5} {finding}", finding.level);
        }
    }
    text
}

/// The best chain for a name, as at a handshake: one without a grave fault, then one that has the name itself before one
/// that has a wildcard.
fn fitting<'a>(candidates: &[&'a AuditedChain], sni: &str) -> Option<&'a AuditedChain> {
    let has = |chain: &AuditedChain| chain.dns_names().iter().any(|name| name.eq_ignore_ascii_case(sni));
    let covering = candidates.iter().copied().filter(|chain| covers(chain.names(), sni));
    covering.min_by_key(|chain| (!chain.is_sound(), !has(chain)))
}

fn headline(text: &mut String, served: Option<&AuditedChain>, sni: Option<&str>, unknown: bool) {
    let asked =
        sni.map_or_else(|| "A client that names no host".to_owned(), |sni| format!("A client that asks for {sni}"));
    let _ = match served {
        Some(chain) if unknown && sni.is_some() => {
            writeln!(text, "{asked} gets {}, the best chain there is: none covers that name.", chain.file().display())
        }
        Some(chain) => writeln!(text, "{asked} gets {} ({}).", chain.file().display(), chain.key_type()),
        None => writeln!(text, "{asked} gets nothing: the endpoint is refused."),
    };
}

fn fate(chain: &Audited, served: Option<&AuditedChain>, decision: &Decision, sni: Option<&str>) -> String {
    let Some(audited) = &chain.servable else {
        return match decision {
            Decision::Serve { fallbacks, .. } => fallbacks
                .iter()
                .find(|fallback| fallback.unfit == chain.report.file)
                .map_or("Not served.".into(), |fallback| format!("Not served; {} takes its place.", fallback.by)),
            Decision::Refuse { .. } => "Not fit to be served.".into(),
        };
    };
    let Decision::Serve { candidates, fallbacks } = decision else {
        return "Fit, but the endpoint is refused for another chain.".into();
    };
    if served.is_some_and(|served| std::ptr::eq(served, audited.as_ref())) {
        return "Served.".into();
    }
    if !candidates.iter().any(|candidate| std::sync::Arc::ptr_eq(candidate, audited)) {
        let by =
            fallbacks.iter().find(|fallback| fallback.unfit == chain.report.file).map(|fallback| fallback.by.as_str());
        return format!("Not served: {} covers its names and is better.", by.unwrap_or("another chain"));
    }
    match sni {
        Some(sni) if !covers(audited.names(), sni) => format!("Not served: it does not cover {sni}."),
        _ if chain.out_of_time => {
            "Not served: it is outside its validity or about to be, and a valid chain is preferred.".into()
        }
        _ => format!(
            "Served only to a client that cannot verify the chains above it; its key is {}.",
            audited.key_type()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::explain;
    use crate::config::OnUnfit;
    use crate::tls::audit::tests::endpoint;

    #[test]
    fn the_chosen_chain_and_the_reasons_against_the_others_are_told() {
        let audited = endpoint(&["md5-www", "localhost", "www", "www-rsa"], &[]);
        let text = explain(&audited, OnUnfit::Fallback, &[], Some("www.example.com"));
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert!(
            lines[0].starts_with("A client that asks for www.example.com gets ") && lines[0].contains("/www.pem"),
            "{text}"
        );
        for said in [
            "Not served: it does not cover www.example.com.",
            "Served.",
            "Served only to a client that cannot verify the chains above it; its key is RSA 2048.",
        ] {
            assert!(lines.contains(&said), "{said}\n{text}");
        }
        assert!(text.contains("/www.pem takes its place.") && text.contains("(rule sig-md5)"), "{text}");
    }

    #[test]
    fn a_client_that_connects_by_address_names_no_host() {
        let text = explain(&endpoint(&["www", "localhost"], &[]), OnUnfit::Fallback, &[], Some("127.0.0.1"));
        let headline = text.lines().next().unwrap_or_default();
        assert!(headline.starts_with("A client that names no host gets ") && headline.contains("/www.pem"), "{text}");
    }

    #[test]
    fn an_expired_chain_with_the_name_itself_gives_way_to_a_valid_one_with_a_wildcard() {
        let audited = endpoint(&["www-expired", "wildcard"], &[]);
        for (asked, served) in [("www.example.com", "/wildcard.pem"), ("example.com", "/www-expired.pem")] {
            let text = explain(&audited, OnUnfit::Fallback, &[], Some(asked));
            assert!(text.lines().next().is_some_and(|line| line.contains(served)), "{asked}: {text}");
        }
    }

    #[test]
    fn a_name_that_nothing_covers_gets_the_best_chain_and_a_refused_endpoint_nothing() {
        let text = explain(&endpoint(&["www"], &[]), OnUnfit::Fallback, &[], Some("other.example.net"));
        assert!(text.contains("none covers that name"), "{text}");
        let text = explain(&endpoint(&["md5"], &[]), OnUnfit::Fallback, &[], None);
        assert!(text.starts_with("A client that names no host gets nothing: the endpoint is refused."), "{text}");
    }
}
