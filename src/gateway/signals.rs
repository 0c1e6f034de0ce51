//! Signals, and what the control socket asks for in their place.
//!
//! Made by `cli` before the gateway starts; `gateway` waits by it until something asks for the end.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::admin::control::Wishes;
use crate::reload::Handle;

/// A second signal that comes sooner is the first one again.
const SAME_WISH: Duration = Duration::from_millis(20);

/// SIGTERM, SIGINT and SIGHUP, watched from the moment that this is made.
///
/// Made before the gateway starts: a signal that came between would end a gateway that serves, and cut what it serves.
#[derive(Debug)]
pub struct Signals {
    runtime: tokio::runtime::Runtime,
    watched: Watched,
}

#[derive(Debug)]
struct Watched {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Watches from now on.
    ///
    /// # Errors
    /// The signals cannot be watched.
    pub fn watch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let watched = Watched {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        };
        drop(entered);
        Ok(Self { runtime, watched })
    }

    /// Waits for the first wish to end; its name. Passes wishes to reload on.
    pub(super) fn wait(&mut self, reload: Option<&Handle>, wishes: &Wishes) -> &'static str {
        let Self { runtime, watched } = self;
        runtime.block_on(async {
            tokio::select! {
                name = watched.next(reload) => name,
                () = wishes.drain.begun() => "asked by the control socket",
                () = wishes.handed_over.begun() => "another took over",
            }
        })
    }

    /// Waits for one that is another wish than the last; its name.
    pub(super) fn wait_for_another(&mut self) -> &'static str {
        let Self { runtime, watched } = self;
        runtime.block_on(async {
            // One wish can arrive as two signals, to the process and to its group.
            let _ = tokio::time::timeout(SAME_WISH, watched.next(None)).await;
            watched.next(None).await
        })
    }
}

impl Watched {
    /// The next signal that ends the gateway. SIGHUP is no such wish: it reloads, and where there is nothing to reload any
    /// more, because the gateway drains, it does nothing.
    async fn next(&mut self, reload: Option<&Handle>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => match reload {
                    Some(reload) => reload.reload_soon(),
                    None => info!("SIGHUP: draining, so nothing is reloaded"),
                },
            }
        }
    }
}
