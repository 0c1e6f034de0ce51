//! Tells when files have changed: at once where the kernel says so, and by looking now and then where it cannot.
//!
//! Owned by the reload thread. `kernel` wakes it for names that matter, in the folders of `places`; what the kernel does
//! not see (network file systems, a full table of watches) shows when the thread looks by itself. That something has
//! changed is told by files' stamps, so a busy folder costs no more than looking, and that not too often.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tracing::warn;

use super::kernel::Kernel;
use super::places::Places;
use crate::plan::Stamp;
use crate::tls::parallel::in_order;

/// How long nothing more must happen before files are looked at: a chain and its key are written one after the other.
pub(super) const QUIET: Duration = Duration::from_millis(20);
/// How long at most to wait for that.
const LONGEST: Duration = Duration::from_millis(200);
/// After looking, that many times as long as it took is the least time before the next look.
const REST: u32 = 3;

/// The files that are watched.
pub(super) struct Watch {
    /// `None` where the kernel tells nothing.
    kernel: Option<Kernel>,
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
    /// Whether something happened since the last look.
    news: bool,
    /// Whether a file was added since: it may have changed since it was read.
    added: bool,
    /// Not to look before.
    rested: Instant,
    /// Whether it was said that the kernel does not tell everything.
    warned: bool,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let (kernel, fault) = match Kernel::new() {
            Ok(kernel) => (Some(kernel), None),
            Err(fault) => (None, Some(fault)),
        };
        let mut watch =
            Self { kernel, stamps: BTreeMap::new(), news: false, added: false, rested: Instant::now(), warned: false };
        watch.warn(fault);
        watch
    }

    /// Watches these files and no others. Whether a folder is new among those that are watched: what happened in it before
    /// has not been told.
    pub(super) fn cover<'a>(&mut self, files: impl Iterator<Item = &'a Path>) -> bool {
        let files: HashSet<&Path> = files.collect();
        self.stamps.retain(|file, _| files.contains(file.as_path()));
        let mut places = Places::default();
        for file in files {
            if !self.stamps.contains_key(file) {
                self.stamps.insert(file.to_owned(), None);
                (self.news, self.added) = (true, true);
            }
            places.add(file);
        }
        let Some(kernel) = &mut self.kernel else { return false };
        let (new, fault) = kernel.watch(places);
        self.warn(fault);
        new
    }

    fn warn(&mut self, fault: Option<io::Error>) {
        let Some(error) = fault.filter(|_| !self.warned) else { return };
        self.warned = true;
        let every = super::HEARTBEAT;
        warn!(
            "cannot watch every folder: {error}; files are looked at every {every:?} instead. More watches: raise \
            fs.inotify.max_user_watches or max_user_instances"
        );
    }

    /// Resolves once something that matters has happened and a moment of quiet, or long enough, has passed.
    pub(super) async fn news(&mut self) {
        if !self.news {
            match &self.kernel {
                Some(kernel) => kernel.news().await,
                None => std::future::pending().await,
            }
        }
        self.news = true; // also where nobody waits to the end
        let begun = Instant::now();
        if let Some(kernel) = &self.kernel {
            while begun.elapsed() < LONGEST && timeout(QUIET, kernel.news()).await.is_ok() {}
        }
        sleep(self.rested.saturating_duration_since(Instant::now())).await;
    }

    /// Whether a file is another than when this was last asked, or may be.
    pub(super) fn changed(&mut self) -> bool {
        let begun = Instant::now();
        self.news = false;
        let stamps = {
            let files: Vec<&PathBuf> = self.stamps.keys().collect();
            in_order(&files, |file| Stamp::of(file)).collect::<Vec<_>>()
        };
        let mut changed = std::mem::take(&mut self.added);
        for (before, now) in self.stamps.values_mut().zip(stamps) {
            changed |= *before != now;
            *before = now;
        }
        self.rested = Instant::now() + begun.elapsed() * REST;
        changed
    }
}
