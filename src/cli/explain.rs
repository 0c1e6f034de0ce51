//! `portcullis explain`: which certificate an endpoint would serve, and why not each other one.

use std::io::{self, Write};
use std::process::ExitCode;

use super::args::ExplainArgs;
use super::check::plan;
use super::report::Terminal;
use crate::config::nearest;
use crate::plan::EndpointState;
use crate::tls::audit::explain::explain;

/// Prints the story; the status is 1 where nothing would be served.
pub(super) fn run(args: &ExplainArgs, out: &mut dyn Write, terminal: &mut Terminal) -> io::Result<ExitCode> {
    let (_, plan) = match plan(&args.config) {
        Ok(planned) => planned,
        Err(problems) => return Ok(terminal.problems(&problems)),
    };
    let Some(endpoint) = plan.endpoints.iter().find(|e| e.endpoint.name.as_str() == args.endpoint) else {
        let known = plan.endpoints.iter().map(|e| e.endpoint.name.as_str());
        let hint = nearest(&args.endpoint, known).map(|near| format!("; did you mean {near:?}?"));
        return Ok(terminal.fault(&format!("no endpoint is called {:?}{}", args.endpoint, hint.unwrap_or_default())));
    };
    let Some(tls) = plan.config.endpoints.get(&args.endpoint).and_then(|config| config.tls.as_ref()) else {
        writeln!(out, "endpoint {:?} is plain: it serves no certificate", args.endpoint)?;
        return Ok(ExitCode::SUCCESS);
    };
    let audited = &endpoint.certificates.audited;
    write!(out, "{}", explain(audited, tls.on_unfit, &tls.server_names, args.sni.as_deref()))?;
    Ok(match endpoint.state {
        EndpointState::Ready { .. } => ExitCode::SUCCESS,
        EndpointState::Refused(_) => ExitCode::FAILURE,
    })
}
