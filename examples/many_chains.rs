//! Writes a configuration with very many chains, for `scripts/bench-reload`:
//!
//! ```text
//! cargo run --example many_chains -- FOLDER 10000
//! ```
//!
//! One endpoint, `many`, serves them all; chain 7 is for `host7.example.com`, and is signed by one issuer for all.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, number] = arguments.as_slice() else { return Err("give a folder and a number of chains".into()) };
    let (folder, number) = (Path::new(folder), number.parse::<usize>()?);
    fs::create_dir_all(folder.join("chains"))?;
    let key = KeyPair::generate()?;
    let params = authority()?;
    let above = params.self_signed(&key)?.pem();
    let issuer = Issuer::from_params(&params, &key);
    let mut config = String::from(HEAD);
    for index in 0..number {
        let name = format!("host{index}");
        write(folder, &name, &issuer, &above)?;
        writeln!(
            config,
            "[[endpoints.many.tls.certificates]]\nchain = \"chains/{name}.pem\"\nkey = \"chains/{name}.key\""
        )?;
    }
    // What a renewal puts in the place of the last one.
    write(folder, &format!("host{}", number - 1), &issuer, &above)?;
    for kind in ["pem", "key"] {
        let last = folder.join(format!("chains/host{}.{kind}", number - 1));
        fs::rename(&last, folder.join(format!("next.{kind}")))?;
    }
    write(folder, &format!("host{}", number - 1), &issuer, &above)?;
    fs::write(folder.join("gateway.toml"), config)?;
    Ok(())
}

const HEAD: &str = r#"[log]
access = false
[admin]
listen = "127.0.0.1:0"
control = "control.sock"
[audit]
rules = { validity-too-long = "off" }
[handlers.ok]
type = "respond"
[endpoints.many]
listen = "127.0.0.1:0"
class = "internal"
handler = "ok"
[endpoints.many.timeouts]
idle = "1h"
"#;

fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Many Chains CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 3000 * DAY).into();
    Ok(params)
}

fn write(folder: &Path, name: &str, issuer: &Issuer<'_, &KeyPair>, above: &str) -> Result<(), Box<dyn Error>> {
    let mut params = CertificateParams::new([format!("{name}.example.com")])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 90 * DAY).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let chain = params.signed_by(&key, issuer)?.pem() + above;
    fs::write(folder.join(format!("chains/{name}.pem")), chain)?;
    fs::write(folder.join(format!("chains/{name}.key")), key.serialize_pem())?;
    Ok(())
}
