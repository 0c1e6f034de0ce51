//! Idle connections: opened one after the other, one request on each, then held while the caller weighs the gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use hyper::Version;
use rustls::ClientConfig;

use crate::http::Sender;
use crate::tls::{self, Settled};
use crate::{Caller, Report, Result, http, in_time};

/// The size of the one answer.
const BODY: u64 = 128;

#[derive(Args)]
pub(crate) struct Options {
    /// The gateway's TLS endpoint.
    #[arg(long)]
    connect: SocketAddr,
    /// PEM file with the certificate that the gateway's chain ends in.
    #[arg(long)]
    ca: PathBuf,
    /// Connections to hold.
    #[arg(long)]
    count: usize,
    /// Connections to hold before those, so that what a gateway allocates once is not counted.
    #[arg(long, default_value_t = 50)]
    warm_up: usize,
}

pub(crate) async fn run(options: Options, caller: &mut Caller) -> Result<()> {
    let config = Arc::new(tls::client_config(&options.ca, "http/1.1")?);
    let mut held = Vec::with_capacity(options.warm_up + options.count);
    for _ in 0..options.warm_up {
        held.push(in_time(open(options.connect, &config)).await?.0);
    }
    caller.wait_for_go().await?;
    let begin = Instant::now();
    let mut tls = None;
    for _ in 0..options.count {
        let (sender, settled) = in_time(open(options.connect, &config)).await?;
        held.push(sender);
        tls = settled;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = options.count as u64 * BODY;
    caller.report(&Report { operations: options.count, bytes, seconds, tls }).await?;
    // Held until now: a connection that the gateway closed meanwhile would have cost it no memory.
    if held.iter().any(Sender::is_closed) {
        return Err("the gateway closed a connection that was to be held".into());
    }
    Ok(())
}

async fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<(Sender, Option<Settled>)> {
    let (mut sender, settled) = Box::pin(http::connect(address, Some(config), Version::HTTP_11)).await?;
    sender.get(BODY).await?;
    Ok((sender, settled))
}
