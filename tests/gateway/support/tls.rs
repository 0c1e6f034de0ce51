//! TLS clients, and the configurations that they meet: `openssl s_client` for what a real client does and shows, rustls
//! for what must go wrong at a certain byte.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::{cert, client};

/// The root of the ECDSA chains in `certs/`.
pub const ECDSA_ROOT: &str = "ca.pem";
/// The root of the RSA chains.
pub const RSA_ROOT: &str = "ca-rsa.pem";

/// A public TLS endpoint that says what it knows of its client; `settings` are lines of its `tls` table.
pub fn endpoint(name: &str, chains: &[&str], settings: &str) -> String {
    endpoint_with(name, "public", "show", &certificates(chains), settings)
}

/// As [`endpoint`], of a class, behind a handler, with `[[…certificates]]` tables written out.
pub fn endpoint_with(
    name: &str,
    class: &str,
    handler: &str,
    certificates: &[(String, String)],
    settings: &str,
) -> String {
    let listed: Vec<String> =
        certificates.iter().map(|(chain, key)| format!("{{ chain = {chain:?}, key = {key:?} }}")).collect();
    format!(
        "[endpoints.{name}]\nlisten = \"127.0.0.1:0\"\nclass = \"{class}\"\nhandler = \"{handler}\"\n\
         [endpoints.{name}.tls]\ncertificates = [{}]\n{settings}\n",
        listed.join(", ")
    )
}

/// Chains of `certs/` by name, each with its key.
pub fn certificates(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| (cert(&format!("{name}.pem")), cert(&format!("{name}.key")))).collect()
}

/// The handler that [`endpoint`] names, and one worker: what it answers is [`shown`](Handshake::shown).
pub fn show() -> &'static str {
    "[gateway]\nworkers = 1\n[handlers.show]\ntype = \"respond\"\n\
     body = \"shown: {endpoint} {tls.version} {tls.alpn} {tls.server_name} {tls.resumed} {http.version}\\n\"\n"
}

/// The series that counts an endpoint's failed handshakes of one reason.
pub fn failures(endpoint: &str, reason: &str) -> String {
    format!("portcullis_tls_handshake_failures_total{{endpoint=\"{endpoint}\",reason=\"{reason}\"}}")
}

/// What `openssl s_client` said.
#[derive(Debug)]
pub struct Handshake {
    pub text: String,
}

impl Handshake {
    /// Whether a request was answered.
    pub fn answered(&self) -> bool {
        self.text.contains("HTTP/1.1 200 OK")
    }

    /// The body of the answer to [`s_client`]'s request, without its first word.
    #[track_caller]
    pub fn shown(&self) -> &str {
        self.line("shown: ")
    }

    /// The server's certificate, as PEM.
    #[track_caller]
    pub fn leaf(&self) -> String {
        let rest = self.text.split("-----BEGIN CERTIFICATE-----").nth(1);
        let pem = rest.and_then(|rest| rest.split("-----END CERTIFICATE-----").next());
        pem.unwrap_or_else(|| panic!("no certificate in\n{}", self.text)).to_owned()
    }

    /// The rest of the first line that begins with `start`.
    #[track_caller]
    pub fn line(&self, start: &str) -> &str {
        let found = self.text.lines().find_map(|line| line.trim_start().strip_prefix(start));
        found.unwrap_or_else(|| panic!("no {start:?} in\n{}", self.text))
    }
}

/// Shakes hands and asks once.
pub fn s_client(address: SocketAddr, args: &[&str]) -> Handshake {
    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let args = [&["-ign_eof"], args].concat();
    s_client_sending(address, &args, REQUEST)
}

/// Shakes hands and sends `input`, in which lines may be commands to `s_client`; then waits for the end.
pub fn s_client_sending(address: SocketAddr, args: &[&str], input: &str) -> Handshake {
    let mut child = Command::new("timeout")
        .args(["20", "openssl", "s_client", "-connect", &address.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs; scripts/test installs it");
    // A handshake that fails may end it before it has read anything.
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_ne!(output.status.code(), Some(124), "openssl s_client {args:?} does not end");
    let text = [output.stdout, output.stderr].concat();
    Handshake { text: String::from_utf8_lossy(&text).into_owned() }
}

/// A connection by rustls, which prefers X25519MLKEM768; `localhost` is asked for, and the ECDSA root is trusted.
pub fn rustls(address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert(ECDSA_ROOT)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[expect(clippy::disallowed_methods, reason = "a test trusts whom it likes")]
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(connection, client::connect(address))
}

/// A server by rustls, with a chain of `certs/`.
pub fn server(chain: &str) -> Arc<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter(cert(&format!("{chain}.pem"))).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(cert(&format!("{chain}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[expect(clippy::disallowed_methods, reason = "a test serves whom it likes")]
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap())
}
