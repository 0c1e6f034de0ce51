//! Sends spans to a collector: OTLP over HTTP, as JSON (OpenTelemetry Protocol 1.x).
//!
//! A thread for each collector, started by `exports`; workers hand it whole buffers by way of `trace`. A collector that is slow, gone or
//! wrong costs spans, which are counted, and never a request: every wait has a deadline, every buffer a bound.

mod client;
mod encode;
mod exports;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use self::client::{Client, Refused};
use self::encode::Resource;
pub(crate) use self::exports::{Exports, Prepared};
use crate::drain::Drain;
use crate::plan::traces::Collector;
use crate::trace::{Sent, Span};

/// The most spans of one request.
const BATCH: usize = 1024;
/// How long the first of them waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// How often a request that may yet be taken is made, and how long after the first and second try.
const TRIES: usize = 3;
const PAUSES: [Duration; TRIES - 1] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long what is left may take once the gateway stops.
const FAREWELL: Duration = Duration::from_secs(3);

/// Starts to send what `spans` gives to `collector`, until that ends, or `stop` begins, and what is left then was sent.
///
/// # Errors
/// A thread or runtime cannot be had.
fn start(
    collector: &Collector,
    spans: Receiver<Vec<Span>>,
    sent: Arc<Sent>,
    stop: Drain,
) -> io::Result<JoinHandle<()>> {
    let client = Client::new(collector).map_err(io::Error::other)?;
    let resource = Resource::of(&collector.service);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exporter = Exporter { client, resource, sent, is_failing: false };
    let run = move || runtime.block_on(exporter.run(spans, stop));
    std::thread::Builder::new().name("otlp".into()).spawn(run)
}

struct Exporter {
    client: Client,
    resource: Resource,
    sent: Arc<Sent>,
    /// Said in the log, once for each time that it begins to fail.
    is_failing: bool,
}

impl Exporter {
    async fn run(mut self, mut spans: Receiver<Vec<Span>>, stop: Drain) {
        let mut batch = Vec::new();
        loop {
            let goes_on = tokio::select! {
                goes_on = gather(&mut spans, &mut batch) => goes_on,
                () = stop.begun() => false,
            };
            if !goes_on {
                break;
            }
            let late = async {
                stop.begun().await;
                sleep(FAREWELL).await;
            };
            let number = batch.len();
            tokio::select! {
                () = self.send(std::mem::take(&mut batch)) => {}
                () = late => return self.lose(number),
            }
        }
        // The workers have ended, or send elsewhere now, and passed on what they had.
        spans.close();
        while let Ok(more) = spans.try_recv() {
            batch.extend(more);
        }
        let until = Instant::now() + FAREWELL;
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            let number = batch.len() + rest.len();
            if timeout_at(until, self.send(batch)).await.is_err() {
                return self.lose(number);
            }
            batch = rest;
        }
    }

    fn lose(&self, number: usize) {
        self.sent.count(0, number as u64);
        warn!("{number} spans are lost: the collector at {} did not take them before the end", self.client.url());
    }

    /// Sends a batch, again if the collector says that it may be taken later.
    async fn send(&mut self, batch: Vec<Span>) {
        let (number, body) = (batch.len() as u64, encode::request(&self.resource, &batch));
        drop(batch);
        let mut pauses = PAUSES.into_iter();
        let outcome = loop {
            match (self.client.post(body.clone()).await, pauses.next()) {
                (Err(refused), Some(pause)) if refused.may_be_repeated => sleep(refused.pause.unwrap_or(pause)).await,
                (outcome, _) => break outcome,
            }
        };
        self.note(number, outcome);
    }

    fn note(&mut self, number: u64, outcome: Result<u64, Refused>) {
        match outcome {
            Ok(rejected) => {
                let rejected = rejected.min(number);
                self.sent.count(number - rejected, rejected);
                if std::mem::replace(&mut self.is_failing, false) {
                    info!("the collector takes spans again");
                }
            }
            Err(refused) => {
                self.sent.count(0, number);
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!("spans are lost: the collector at {} does not take them: {}", self.client.url(), refused.why);
                }
            }
        }
    }
}

/// Waits for spans, and for a moment more for others; false where none will come. What has come stands in `batch`, should this
/// be dropped.
async fn gather(spans: &mut Receiver<Vec<Span>>, batch: &mut Vec<Span>) -> bool {
    match spans.recv().await {
        Some(first) => batch.extend(first),
        None => return false,
    }
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH
        && let Ok(Some(more)) = timeout_at(until, spans.recv()).await
    {
        batch.extend(more);
    }
    true
}
