//! temp
use rustls::pki_types::*;
pub fn read_certificates(_p: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    Err(String::new())
}
pub fn read_crls(_p: &std::path::Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    Err(String::new())
}
