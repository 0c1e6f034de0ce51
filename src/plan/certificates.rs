//! temp
use super::*;
use crate::metrics::EndpointMetrics;
pub(super) struct Subject<'a> {
    pub inputs: &'a Inputs<'a>,
    pub endpoint: &'a Arc<Endpoint>,
    pub listen: &'a [SocketAddr],
    pub config: &'a crate::config::TlsConfig,
    pub policy: &'a Policy,
    pub protocols: &'static [&'static str],
    pub metrics: Arc<EndpointMetrics>,
}
pub(super) enum Outcome {
    Serve(Box<TlsTerms>, Certificates),
    Refuse(Vec<String>, Certificates),
}
pub(super) fn plan(_s: Subject<'_>, _p: &mut Problems) -> Option<Outcome> {
    None
}
