//! Facts about this build, for `/version`, the dashboard and `build_info`.

use rustls::crypto::aws_lc_rs;
use serde_json::{Value, json};

/// The package's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the build is for, such as `x86_64-linux`.
pub(crate) fn target() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// The body of `/version`.
pub(crate) fn facts() -> Value {
    let provider = aws_lc_rs::default_provider();
    let groups: Vec<_> = provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
    let suites: Vec<_> = provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
    json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": VERSION,
        "target": target(),
        "debug": cfg!(debug_assertions),
        "tls": { "library": "rustls", "provider": "aws-lc-rs", "groups": groups, "cipher_suites": suites },
    })
}
