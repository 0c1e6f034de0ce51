//! What upstreams need besides requests: active checks, and looking names up again. On a thread of its own, so that no
//! worker is held up.
//!
//! Started by `gateway`; `reload` tells it the upstreams of each plan that begins. An upstream that goes on unchanged is
//! minded on, so that what is known of its servers stays.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::upstream::{self, Upstream};

/// The minder's thread. It ends when this is dropped.
pub(crate) struct Minder {
    /// `None` only while it is dropped.
    wanted: Option<watch::Sender<Vec<Arc<Upstream>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Minder {
    pub(crate) fn start() -> io::Result<Self> {
        let (wanted, mut plans) = watch::channel(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("upstreams".into()).spawn(move || {
            runtime.block_on(async {
                let mut minded = Vec::new();
                while plans.changed().await.is_ok() {
                    let upstreams = plans.borrow_and_update().clone();
                    minded = go_on(minded, upstreams);
                }
            });
        })?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// Minds these upstreams from now on, and no others.
    pub(crate) fn learn(&self, upstreams: &[Arc<Upstream>]) {
        if let Some(wanted) = &self.wanted {
            wanted.send_replace(upstreams.to_vec());
        }
    }
}

impl Drop for Minder {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the upstreams' thread panicked");
        }
    }
}

type Minded = (Arc<Upstream>, AbortHandle);

/// Ends what is no longer wanted, and begins what is new.
fn go_on(minded: Vec<Minded>, wanted: Vec<Arc<Upstream>>) -> Vec<Minded> {
    let (kept, gone): (Vec<Minded>, _) =
        minded.into_iter().partition(|(upstream, _)| wanted.iter().any(|other| Arc::ptr_eq(upstream, other)));
    gone.into_iter().for_each(|(_, task)| task.abort());
    let new = |upstream: &Arc<Upstream>| !kept.iter().any(|(other, _)| Arc::ptr_eq(upstream, other));
    let begun: Vec<Minded> = wanted
        .into_iter()
        .filter(new)
        .map(|upstream| (Arc::clone(&upstream), tokio::spawn(upstream::mind(upstream)).abort_handle()))
        .collect();
    kept.into_iter().chain(begun).collect()
}
