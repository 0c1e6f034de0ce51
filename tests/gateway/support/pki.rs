//! Authorities of a test's own, by openssl, for what `certs/` does not hold.

use std::path::Path;
use std::process::Command;

use super::{Folder, cert, stderr};

/// The beginning and the end of a certificate, as `openssl ca` takes them.
pub type Dates<'a> = (&'a str, &'a str);
/// Never ends.
pub const ALWAYS: Dates<'static> = ("20250101000000Z", "99991231235959Z");
/// Long over.
pub const PAST: Dates<'static> = ("20200101000000Z", "20200401000000Z");

/// openssl's standard output; it must succeed.
#[track_caller]
pub fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().expect("openssl runs; scripts/test installs it");
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Has an authority of `certs/` issue NAME.pem with NAME.key, with an extended key usage.
pub fn client(folder: &Folder, name: &str, by: &str, usage: &str, (from, until): Dates<'_>) {
    let path = |suffix: &str| folder.path().join(format!("{name}.{suffix}")).to_str().unwrap().to_owned();
    let (key, request, chain) = (path("key"), path("csr"), path("pem"));
    openssl(&["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key]);
    openssl(&["req", "-new", "-key", &key, "-subj", &format!("/CN={name}"), "-out", &request]);
    let extensions =
        folder.write("client.cnf", format!("basicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\n"));
    let config = authority(folder, by, "");
    let always = ["ca", "-batch", "-notext", "-config", &config, "-in", &request, "-out", &chain, "-extfile"];
    let by = [extensions.to_str().unwrap(), "-startdate", from, "-enddate", until];
    openssl(&[&always[..], &by].concat());
}

/// A revocation list of the clients' authority of `certs/` that revokes nobody, with lines of its extensions' section.
pub fn empty_crl(folder: &Folder, to: &Path, extensions: &str) {
    let config = authority(folder, "clients-ca", extensions);
    openssl(&["ca", "-gencrl", "-crldays", "30", "-config", &config, "-out", to.to_str().unwrap()]);
}

/// A configuration of `openssl ca` for that authority.
fn authority(folder: &Folder, name: &str, extensions: &str) -> String {
    let path = folder.path().display();
    folder.write("index.txt", "");
    folder.write("crlnumber", "01");
    let config = format!(
        "[ca]\ndefault_ca = here\n[here]\ndatabase = {path}/index.txt\ncrlnumber = {path}/crlnumber\nrand_serial = yes\n\
         new_certs_dir = {path}\ndefault_md = sha256\npolicy = any\ncertificate = {}\nprivate_key = {}\n\
         crl_extensions = list\n[any]\ncommonName = optional\n[list]\nauthorityKeyIdentifier = keyid\n{extensions}\n",
        cert(&format!("{name}.pem")),
        cert(&format!("{name}.key")),
    );
    folder.write("ca.cnf", config).to_str().unwrap().to_owned()
}
