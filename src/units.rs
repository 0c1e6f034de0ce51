//! The words of the configuration that mean more than text: durations, addresses, networks, fingerprints.
//!
//! Owns how each is spelled. Pure functions, called by `plan` and by the audit's policy; each error is a sentence that
//! says what was expected, with an example, and is shown behind the place in the file where the word stands.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::server_names::without_final_dot;

/// No wait and no warning is longer than this: ten years.
pub const LONGEST_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A higher rate is no limit.
const MOST_PER_UNIT: u32 = 1_000_000;

/// The longest host name, in bytes (RFC 1035, section 2.3.4, without the trailing dot).
const LONGEST_HOST: usize = 253;
/// The longest label of a host name, in bytes (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Reads a duration such as "30s", "1m30s", "250ms" or "30d". Zero is one.
///
/// # Errors
/// A sentence, where the text is no duration, or one longer than [`LONGEST_DURATION`].
pub fn duration(text: &str) -> Result<Duration, String> {
    use humantime::DurationError as Fault;
    let refuse = |why: &str| Err(format!("{text:?} is not a duration: {why}; write \"30s\", \"1m30s\" or \"30d\""));
    match humantime::parse_duration(text) {
        Ok(long) if long > LONGEST_DURATION => {
            Err(format!("{text:?} is more than ten years; write \"30s\" or \"30d\""))
        }
        Ok(duration) => Ok(duration),
        Err(Fault::Empty) => refuse("it is empty"),
        Err(Fault::UnknownUnit { unit, .. }) if unit.is_empty() => refuse("the unit is missing"),
        Err(Fault::UnknownUnit { unit, .. }) => refuse(&format!("{unit:?} is no unit")),
        Err(Fault::NumberOverflow) => refuse("the number is too large, or too exact"),
        Err(Fault::NumberExpected(_) | Fault::InvalidCharacter(_)) => refuse("it is a number and a unit"),
    }
}

/// Reads a duration that must not be zero, such as a deadline.
///
/// # Errors
/// As [`duration`], and where it is zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text:?} leaves no time at all; write \"30s\"")),
        positive => Ok(positive),
    }
}

/// Reads where to listen: `127.0.0.1:8080`, `0.0.0.0:443` or `[::]:443`. Port 0 lets the system choose.
///
/// # Errors
/// A sentence, where the text is no address with a port. Host names are none: what they mean can change.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = host_and_port(text, "127.0.0.1", 8080)?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Err(match host {
        "" | "*" => format!("{text:?} names no address; for all of them write [\"0.0.0.0:{port}\", \"[::]:{port}\"]"),
        "localhost" => {
            format!("{text:?} has a name where an address is expected; write [\"127.0.0.1:{port}\", \"[::1]:{port}\"]")
        }
        _ => format!("{shown:?} is not an address that a socket can listen on; write \"127.0.0.1:{port}\""),
    })
}

/// Where a server is: an address, or a name that has yet to be resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// Known as it is written.
    Address(SocketAddr),
    /// A host name, lower case, and a port.
    Name {
        /// The host.
        host: String,
        /// The port; never 0.
        port: u16,
    },
}

/// Reads a server's address: `10.0.0.5:3000`, `[2001:db8::5]:3000` or `app.example.com:3000`.
///
/// # Errors
/// A sentence, where host or port is missing or cannot be one. Port 0 cannot be dialled.
pub fn server_address(text: &str) -> Result<ServerAddress, String> {
    let (host, port) = host_and_port(text, "10.0.0.5", 3000)?;
    if port == 0 {
        return Err(format!("{text:?} has port 0, which cannot be dialled; write \"{}:3000\"", host.escape_debug()));
    }
    if let Ok(address) = text.parse() {
        return Ok(ServerAddress::Address(address));
    }
    host_name(host).map_err(|why| format!("{text:?} names no server: {why}; write \"app.example.com:{port}\""))?;
    Ok(ServerAddress::Name { host: host.to_ascii_lowercase(), port })
}

/// Reads a network: "10.0.0.0/8", "2001:db8::/32", or one address.
///
/// # Errors
/// A sentence, where the text is no network, or has bits set behind its prefix: which of the two was meant is not for
/// us to guess.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return Err(format!("{text:?} is not a network; write \"10.0.0.0/8\", \"2001:db8::/32\" or one address"));
    };
    if network.trunc() != network {
        let (whole, one) = (network.trunc(), network.addr());
        return Err(format!(
            "{text:?} has bits set behind its prefix; write \"{whole}\", or \"{one}\" for one address"
        ));
    }
    Ok(network)
}

/// Reads a size in bytes: "512B", "16KiB", "10MiB" or "2GiB".
///
/// # Errors
/// A sentence, where the text is no size.
pub fn size(text: &str) -> Result<u64, String> {
    let read = || {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    };
    read().ok_or_else(|| format!("{text:?} is not a size; write \"16KiB\", \"10MiB\" or \"2GiB\""))
}

/// Reads how often something may happen: "20/s", "30/m" or "100/h".
///
/// # Errors
/// A sentence, where the text is no rate, or one of nothing.
pub fn rate(text: &str) -> Result<(u32, Duration), String> {
    let read = || {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count = Some(count).filter(|count| count.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
        (1..=MOST_PER_UNIT).contains(&count).then_some((count, Duration::from_secs(seconds)))
    };
    read().ok_or_else(|| {
        format!(
            "{text:?} is not a rate; write \"20/s\", \"30/m\" or \"100/h\", with a number from 1 to {MOST_PER_UNIT}"
        )
    })
}

/// Reads a share: "0%" to "100%", with a fraction such as "0.5%"; from 0 to 1.
///
/// # Errors
/// A sentence, where the text is no share.
pub fn share(text: &str) -> Result<f64, String> {
    let is_plain = |number: &&str| number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let percent = text.strip_suffix('%').filter(is_plain).and_then(|number| number.parse::<f64>().ok());
    let share = percent.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent / 100.0);
    share.ok_or_else(|| format!("{text:?} is not a share; write \"10%\" or \"0.5%\", \"100%\" at most"))
}

/// Reads a certificate's SHA-256 fingerprint: "sha256:" and 64 hex digits, in either case, with or without the colons
/// that `openssl x509 -fingerprint -sha256` writes between bytes.
///
/// # Errors
/// A sentence, where the text is no such fingerprint.
pub fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let refuse = |why: &str| {
        Err(format!("{text:?} is not a fingerprint: {why}; write \"sha256:\" and the 64 hex digits of the certificate"))
    };
    let Some(digits) = text.strip_prefix("sha256:") else {
        return refuse("\"sha256:\" does not stand before it");
    };
    let digits: Vec<char> = digits.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 {
        return refuse(&format!("it has {} digits", digits.len()));
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let Some(value) = digit.to_digit(16).and_then(|value| u8::try_from(value).ok()) else {
                return refuse(&format!("{digit:?} is no hex digit"));
            };
            *byte = *byte << 4 | value;
        }
    }
    Ok(bytes)
}

/// Reads a name that clients may ask for: a host's, "*." and a host's for any one label before it, or an address.
///
/// # Errors
/// A sentence, where it is none.
pub fn server_name(text: &str) -> Result<(), String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    host_name(text.strip_prefix("*.").unwrap_or(text))
        .map_err(|why| format!("{text:?} is no name to serve: {why}; write \"www.example.com\" or \"*.example.com\""))
}

/// Reads a name that a certificate can be ordered for: lower case, without a trailing dot.
///
/// # Errors
/// A sentence, where it is none. Wildcards are none: neither challenge that is answered here can prove them.
pub fn dns_name(text: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("{text:?} is no name to order for: {why}; write \"www.example.com\""));
    let name = without_final_dot(text);
    if name.starts_with("*.") {
        return refuse("a wildcard can be proved by DNS alone, which is not done here");
    }
    if text.parse::<IpAddr>().is_ok() {
        return refuse("it is an address");
    }
    match host_name(name) {
        Err(why) => refuse(&why),
        Ok(()) if name.contains('_') => refuse("it has an underscore"),
        Ok(()) => Ok(name.to_ascii_lowercase()),
    }
}

/// Splits "HOST:PORT"; the brackets of an IPv6 host are taken off. The example is for the error's sake.
fn host_and_port<'a>(text: &'a str, host: &str, port: u16) -> Result<(&'a str, u16), String> {
    if let Ok(bare) = text.parse::<Ipv6Addr>() {
        return Err(format!("{text:?} has no brackets or no port; write \"[{bare}]:{port}\""));
    }
    let Some((before, after)) = text.rsplit_once(':') else {
        let host = if text.is_empty() { host } else { text };
        return Err(format!("{text:?} has no port; write \"{}:{port}\"", host.escape_debug()));
    };
    let inner = before.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if inner.map_or(before.contains(':'), |inner| inner.parse::<Ipv6Addr>().is_err()) {
        return Err(format!("{text:?} is not HOST:PORT; brackets are for IPv6 addresses: \"[::1]:{port}\""));
    }
    match after.parse() {
        Ok(number) if after.bytes().all(|b| b.is_ascii_digit()) => Ok((inner.unwrap_or(before), number)),
        _ => Err(format!("{after:?} is not a port (0 to 65535); write \"{host}:{port}\"")),
    }
}

/// Whether a name can be a host's (RFC 1123, section 2.1). Underscores are let through, since container networks use them.
fn host_name(name: &str) -> Result<(), String> {
    let name = without_final_dot(name);
    if name.is_empty() {
        return Err("the host is missing".into());
    }
    if name.len() > LONGEST_HOST {
        return Err(format!("a host name has at most {LONGEST_HOST} characters"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return Err(format!("the labels between the dots have 1 to {LONGEST_LABEL} characters"));
        }
        if let Some(bad) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c)) {
            return Err(format!("a host name is made of A-Z a-z 0-9 - _ and dots; {bad:?} is none of them"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("the label {label:?} begins or ends with a hyphen"));
        }
    }
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("{name:?} looks like an IPv4 address and is none"));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_is_a_percentage_up_to_the_whole() {
        for (text, expected) in [("0%", 0.0), ("12.5%", 0.125), ("100%", 1.0), ("0.001%", 0.00001)] {
            assert!(share(text).is_ok_and(|share| (share - expected).abs() < 1e-12), "{text}");
        }
        for bad in ["", "%", "10", "101%", "-1%", "1e1%", "nan%", "inf%", "1.2.3%", " 1%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_is_numbers_with_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 24 * 60 * 60)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_duration_that_cannot_be_read_says_why_and_shows_one_that_can() {
        for (text, why) in [
            ("", "empty"),
            ("30", "the unit is missing"),
            ("30 parsecs", "\"parsecs\" is no unit"),
            ("soon", "a number and a unit"),
            ("-5s", "a number and a unit"),
            ("99999999999999999999s", "too large"),
            ("11y", "more than ten years"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(why) && error.contains("\"30s\""), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_deadline_of_nothing_is_refused() {
        assert!(positive_duration("0s").unwrap_err().contains("no time at all"));
        assert_eq!(positive_duration("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn a_socket_listens_on_an_address_with_a_port() {
        for text in ["127.0.0.1:8080", "0.0.0.0:443", "[::]:443", "127.0.0.1:0"] {
            assert_eq!(listen_address(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_a_socket_cannot_listen_on_is_answered_with_what_it_can() {
        for (text, remedy) in [
            ("127.0.0.1", "write \"127.0.0.1:8080\""),
            ("", "write \"127.0.0.1:8080\""),
            (":443", "[\"0.0.0.0:443\", \"[::]:443\"]"),
            ("*:443", "[\"0.0.0.0:443\", \"[::]:443\"]"),
            ("localhost:443", "[\"127.0.0.1:443\", \"[::1]:443\"]"),
            ("gateway.example:443", "\"127.0.0.1:443\""),
            ("::1", "\"[::1]:8080\""),
            ("::1:443x", "brackets"),
            ("[::1]", "brackets"),
            ("[127.0.0.1]:80", "brackets"),
            ("127.0.0.1:70000", "not a port"),
            ("127.0.0.1:+80", "not a port"),
        ] {
            let error = listen_address(text).unwrap_err();
            assert!(error.contains(remedy), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_server_is_an_address_or_a_name() {
        assert_eq!(
            server_address("10.0.0.5:3000"),
            Ok(ServerAddress::Address(SocketAddr::from(([10, 0, 0, 5], 3000))))
        );
        assert!(matches!(server_address("[2001:db8::5]:3000"), Ok(ServerAddress::Address(_))));
        let name = |host: &str| Ok(ServerAddress::Name { host: host.into(), port: 3000 });
        assert_eq!(server_address("App_1.example.com:3000"), name("app_1.example.com"));
        assert_eq!(server_address("localhost:3000"), name("localhost"));
        for text in
            ["app", "app:", "app:0", ":3000", "a..b:1", "-a:1", "10.0.0.300:80", "http://app:80", "ä:80", "[app]:80"]
        {
            assert!(server_address(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_name_to_serve_is_a_hosts_a_wildcard_over_one_or_an_address() {
        for right in
            ["www.example.com", "WWW.example.com.", "localhost", "*.example.com", "10.0.0.1", "::1", "a_b.test"]
        {
            assert_eq!(server_name(right), Ok(()), "{right}");
        }
        for wrong in
            ["", "*", "*.", "w*.example.com", "*.*.com", "a..b", "a b", "bücher.example", "www.example.com:443"]
        {
            assert!(server_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_to_order_for_is_lower_case_and_neither_wildcard_nor_address() {
        assert_eq!(dns_name("WWW.example.com."), Ok("www.example.com".into()));
        for wrong in ["*.example.com", "127.0.0.1", "::1", "a_b.example.com", "", "a..b", "../x", "a/b"] {
            assert!(dns_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_has_no_bits_behind_its_prefix() {
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(network("2001:db8::1").unwrap().to_string(), "2001:db8::1/128");
        let error = network("10.1.2.3/8").unwrap_err();
        assert!(error.contains("\"10.0.0.0/8\"") && error.contains("\"10.1.2.3\""), "{error}");
        assert!(network("10.0.0.0/33").is_err() && network("everyone").is_err());
    }

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let plain = format!("sha256:{}", "0aF0".repeat(16));
        let colons = format!("sha256:{}", ["0A:F0"; 16].join(":"));
        assert_eq!(fingerprint(&plain), fingerprint(&colons));
        assert_eq!(fingerprint(&plain).unwrap()[..2], [0x0a, 0xf0]);
        for bad in ["", "0aF0", "sha256:12", "sha1:00", &plain.replace('F', "g")] {
            assert!(fingerprint(bad).unwrap_err().contains("sha256:"), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic_and_every_error_quotes_it_on_one_line(text in "(?s-u:[\\x00-\\x7f]){0,9}(:0)?|\\PC{0,24}|[0-9a-z:./\\[\\]]{0,24}") {
            let errors = [
                duration(&text).err(),
                positive_duration(&text).err(),
                network(&text).err(),
                fingerprint(&text).err(),
            ];
            for error in errors.into_iter().flatten() {
                prop_assert!(error.contains(&format!("{text:?}")), "{}", error);
            }
            for error in [listen_address(&text).err(), server_address(&text).err()].into_iter().flatten() {
                prop_assert!(!error.chars().any(char::is_control), "{:?}", error);
            }
        }

        #[test]
        fn every_socket_address_is_read_back(address: SocketAddr) {
            prop_assume!(!address.to_string().contains('%'));
            prop_assert_eq!(listen_address(&address.to_string()), Ok(address));
        }
    }
}
