//! GET requests over kept connections: HTTP/1.1 one at a time on each, HTTP/2 several.
//!
//! Small bodies measure requests, large ones measure bytes. The same mode measures layer 4: through a
//! TCP proxy the upstream is spoken to in the same words.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use clap::Args;
use hyper::Version;
use tokio::task::JoinSet;

use crate::http::Sender;
use crate::tls;
use crate::{Caller, Report, Result, http};

#[derive(Args)]
pub(crate) struct Options {
    /// The gateway's endpoint.
    #[arg(long)]
    connect: SocketAddr,
    /// Speak TLS, and believe the certificate in this PEM file.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Requests under way at once on each connection, over HTTP/2; without it, HTTP/1.1.
    #[arg(long, requires = "ca")]
    streams: Option<usize>,
    /// Bytes in each answer's body.
    #[arg(long, default_value_t = 128)]
    body: u64,
    /// Requests to measure.
    #[arg(long)]
    count: usize,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests before the measurement.
    #[arg(long, default_value_t = 1000)]
    warm_up: usize,
}

pub(crate) async fn run(options: Options, caller: &mut Caller) -> Result<()> {
    let (alpn, version) = match options.streams {
        Some(_) => ("h2", Version::HTTP_2),
        None => ("http/1.1", Version::HTTP_11),
    };
    let config = options.ca.as_deref().map(|ca| tls::client_config(ca, alpn)).transpose()?.map(Arc::new);
    let (mut senders, mut tls) = (Vec::new(), None);
    for _ in 0..options.connections {
        let (sender, settled) = http::connect(options.connect, config.as_ref(), version).await?;
        let others: Vec<Sender> = (1..options.streams.unwrap_or(1)).filter_map(|_| sender.another()).collect();
        senders.push(sender);
        senders.extend(others);
        tls = settled;
    }
    let senders = all(senders, options.warm_up, options.body).await?;
    caller.wait_for_go().await?;
    let begin = Instant::now();
    let senders = all(senders, options.count, options.body).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let bytes = options.count as u64 * options.body;
    caller.report(&Report { operations: options.count, bytes, seconds, tls }).await?;
    drop(senders);
    Ok(())
}

/// Does `count` requests, shared among the senders, and gives the senders back.
async fn all(senders: Vec<Sender>, count: usize, body: u64) -> Result<Vec<Sender>> {
    let claimed = Arc::new(AtomicUsize::new(0));
    let mut tasks: JoinSet<Result<Sender>> = JoinSet::new();
    for mut sender in senders {
        let claimed = claimed.clone();
        tasks.spawn(async move {
            while claimed.fetch_add(1, Relaxed) < count {
                sender.get(body).await?;
            }
            Ok(sender)
        });
    }
    let mut back = Vec::new();
    while let Some(done) = tasks.join_next().await {
        back.push(done??);
    }
    Ok(back)
}
