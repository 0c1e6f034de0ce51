//! TLS 1.3 handshakes, full or resumed: connect, shake hands, wait for a ticket, close in order.
//!
//! An operation counts when a ticket came, for only then is the server known to be done, and when the server has closed
//! its side too.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use clap::Args;
use rustls::ClientConfig;
use rustls::client::{Resumption, Tls13ClientSessionValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::tls::{self, Settled, TicketTray};
use crate::{Caller, Report, Result, http, in_time};

#[derive(Args)]
pub(crate) struct Options {
    /// The gateway's TLS endpoint.
    #[arg(long)]
    connect: SocketAddr,
    /// PEM file with the certificate that the gateway's chain ends in.
    #[arg(long)]
    ca: PathBuf,
    /// Resume a session in every measured handshake.
    #[arg(long)]
    resume: bool,
    /// Handshakes to measure.
    #[arg(long)]
    count: usize,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Handshakes, by each of those, before the measurement.
    #[arg(long, default_value_t = 20)]
    warm_up: usize,
}

pub(crate) async fn run(options: Options, caller: &mut Caller) -> Result<()> {
    let config = Arc::new(tls::client_config(&options.ca, "http/1.1")?);
    let client = |resume| Client { config: config.clone(), address: options.connect, resume, ticket: None };
    let mut clients: Vec<Client> = (0..options.connections).map(|_| client(options.resume)).collect();
    for client in &mut clients {
        for _ in 0..options.warm_up.max(1) {
            client.handshake().await?; // the first leaves a ticket for the next
        }
    }
    caller.wait_for_go().await?;
    let begin = Instant::now();
    let (operations, tls) = all(clients, options.count).await?;
    let seconds = begin.elapsed().as_secs_f64();
    caller.report(&Report { operations, bytes: 0, seconds, tls }).await
}

/// Does `count` handshakes, shared among the clients; all must settle the same.
async fn all(clients: Vec<Client>, count: usize) -> Result<(usize, Option<Settled>)> {
    let claimed = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(client.handshakes(claimed.clone(), count));
    }
    let (mut operations, mut settled) = (0, None);
    while let Some(done) = tasks.join_next().await {
        let (n, last) = done??;
        operations += n;
        settled = last.or(settled);
    }
    Ok((operations, settled))
}

struct Client {
    config: Arc<ClientConfig>,
    address: SocketAddr,
    resume: bool,
    /// The ticket to spend next.
    ticket: Option<Tls13ClientSessionValue>,
}

impl Client {
    async fn handshakes(mut self, claimed: Arc<AtomicUsize>, count: usize) -> Result<(usize, Option<Settled>)> {
        let (mut done, mut settled) = (0, None);
        while claimed.fetch_add(1, Relaxed) < count {
            let now = self.handshake().await?;
            if now.resumed != self.resume {
                let (wanted, was) = if self.resume { ("resumed", "full") } else { ("full", "resumed") };
                return Err(format!("a {wanted} handshake was wanted, and the gateway made a {was} one").into());
            }
            if settled.as_ref().is_some_and(|before| *before != now) {
                return Err(format!("handshakes differ: {settled:?}, then {now:?}").into());
            }
            settled = Some(now);
            done += 1;
        }
        Ok((done, settled))
    }

    /// One handshake, from the connection to its orderly end.
    async fn handshake(&mut self) -> Result<Settled> {
        let tray = TicketTray::new(self.ticket.take());
        // A fresh tray in a copy of the configuration: rustls resumes only where verifier and client
        // authentication are the same objects, which copies share.
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(tray.clone());
        let settled = in_time(shake_hands(Arc::new(config), self.address, &tray)).await?;
        if self.resume {
            self.ticket = tray.take_received();
        }
        Ok(settled)
    }
}

async fn shake_hands(config: Arc<ClientConfig>, address: SocketAddr, tray: &TicketTray) -> Result<Settled> {
    let mut stream = tls::connect(config, http::dial(address).await?).await?;
    let settled = Settled::of(&stream)?;
    let mut stray = [0];
    tokio::select! {
        biased;
        () = tray.arrival() => {}
        read = stream.read(&mut stray) => {
            return Err(format!("{:?} instead of a session ticket", read.map(|n| format!("{n} bytes came"))).into());
        }
    }
    stream.shutdown().await?;
    wait_for_end(&mut stream).await?;
    Ok(settled)
}

/// Waits until the server has closed its side. A missing close_notify, or a reset, is an end too: all was said.
async fn wait_for_end(stream: &mut TlsStream<TcpStream>) -> Result<()> {
    match stream.read(&mut [0]).await {
        Ok(0) => Ok(()),
        Ok(_) => Err("the gateway sent data that nobody asked for".into()),
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
