//! Evidence for deprecation: what clients were seen to use, so that an operator knows what turning it off would break.

use crate::support::tls::{endpoint, s_client, show};
use crate::support::{Folder, Gateway, cert};

fn features(feature: &str, value: &str) -> String {
    format!("portcullis_tls_features_total{{endpoint=\"front\",feature=\"{feature}\",value=\"{value}\"}}")
}

#[test]
fn what_clients_use_is_counted_dated_and_told_with_its_share() {
    let auth = format!("client_auth = {{ mode = \"optional\", ca = {:?} }}", cert("clients-ca.pem"));
    let config = format!("{}{}", show(), endpoint("front", &["localhost", "localhost-rsa"], &auth));
    let gateway = Gateway::start(&config);
    let front = gateway.address("front");
    let folder = Folder::new();
    let session = folder.path().join("session");
    let session = session.to_str().unwrap();
    assert!(s_client(front, &["-tls1_2", "-groups", "P-256", "-sigalgs", "RSA+SHA256"]).answered());
    assert!(s_client(front, &["-tls1_3", "-groups", "X25519", "-sess_out", session]).answered());
    assert!(s_client(front, &["-tls1_3", "-groups", "X25519", "-sess_in", session]).answered());
    let (client, key) = (cert("client.pem"), cert("client.key"));
    assert!(s_client(front, &["-tls1_3", "-groups", "X25519", "-cert", &client, "-key", &key]).answered());

    for (feature, value, count) in [
        ("any", "any", 4.0),
        ("version", "1.2", 1.0),
        ("version", "1.3", 3.0),
        ("group", "secp256r1", 1.0),
        ("group", "x25519", 3.0),
        ("signature", "rsa_pkcs1_sha256", 1.0),
        ("signature", "ecdsa_secp256r1_sha256", 2.0),
        ("resumption", "ticket", 1.0),
        ("client_certificate", "presented", 1.0),
    ] {
        gateway.wait_for_metric(&features(feature, value), count);
    }
    assert_eq!(gateway.metric(&features("group", "X25519MLKEM768")), None, "only what occurred");
    let clients = "portcullis_tls_feature_clients{endpoint=\"front\",feature=\"version\",value=\"1.2\"}";
    assert_eq!(gateway.metric(clients), Some(1.0), "one address");

    let evidence = gateway.json("/endpoints/front")["evidence"].clone();
    assert_eq!(evidence["handshakes"], 4);
    let old = &evidence["version"]["1.2"];
    assert_eq!((&old["handshakes"], &old["share"], &old["clients"]), (&1.into(), &0.25.into(), &1.into()));
    assert!(old["last"].as_str().unwrap().ends_with('Z'), "{evidence}");
    assert_eq!(evidence["signature"]["ecdsa_secp256r1_sha256"]["share"], 0.5);
    assert!(evidence["group"].get("secp384r1").is_none(), "{evidence}");
}

#[test]
fn a_version_that_nobody_uses_is_told_as_such() {
    let gateway = Gateway::start(&format!("{}{}", show(), endpoint("front", &["localhost"], "")));
    assert!(s_client(gateway.address("front"), &["-tls1_3"]).answered());
    gateway.wait_for_metric(&features("version", "1.3"), 1.0);
    let evidence = gateway.json("/endpoints/front")["evidence"].clone();
    assert_eq!(
        (&evidence["version"]["1.2"]["handshakes"], &evidence["version"]["1.2"]["last"]),
        (&0.into(), &().into())
    );
    assert_eq!(evidence["version"]["1.3"]["share"], 1.0);
}
