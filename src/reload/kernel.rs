//! inotify: what the kernel tells of folders (inotify(7)).
//!
//! Owned by `watch`. A thread reads the events and keeps to itself those of names that do not matter; it ends with this.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::places::Places;
use super::watch::QUIET;

/// What is told of. Opening and reading are left out: we do that ourselves.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Of the folder itself, or more than the kernel could keep.
const WHOLE: ReadFlags =
    ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT).union(ReadFlags::QUEUE_OVERFLOW);
/// How many reads of events are made at a time; the kernel keeps the rest.
const READS: usize = 64;

/// Folders that the kernel tells of.
pub(super) struct Kernel {
    shared: Arc<Shared>,
    /// Dropped, it ends the thread.
    _stop: PipeWriter,
}

struct Shared {
    inotify: OwnedFd,
    /// The names that matter, by the folder's watch.
    folders: Mutex<Folders>,
    news: Notify,
}

type Folders = HashMap<i32, HashSet<OsString>>;

impl Kernel {
    /// Starts the thread; no folder is watched yet.
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let (stopped, stop) = io::pipe()?;
        let shared = Arc::new(Shared { inotify, folders: Mutex::default(), news: Notify::new() });
        let listening = Arc::clone(&shared);
        std::thread::Builder::new().name("watch".into()).spawn(move || listening.listen(&stopped))?;
        Ok(Self { shared, _stop: stop })
    }

    /// Watches these folders and no others. Whether one of them is new, and what hinders.
    pub(super) fn watch(&mut self, places: Places) -> (bool, Option<io::Error>) {
        let (mut folders, mut fault) = (Folders::new(), None);
        let mut known = self.shared.folders.lock().unwrap_or_else(PoisonError::into_inner);
        for (folder, names) in places.names {
            match inotify::add_watch(&self.shared.inotify, &folder, CHANGES) {
                Ok(watch) => folders.entry(watch).or_default().extend(names),
                // It went away just now; its own folder tells, or the next look.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => fault = Some(error.into()),
            }
        }
        for gone in known.keys().filter(|watch| !folders.contains_key(watch)) {
            let _ = inotify::remove_watch(&self.shared.inotify, *gone); // the kernel did so where the folder is gone
        }
        let new = folders.keys().any(|watch| !known.contains_key(watch));
        *known = folders;
        (new, fault)
    }

    /// Resolves once something that matters has happened since this was last asked.
    pub(super) async fn news(&self) {
        self.shared.news.notified().await;
    }
}

impl Shared {
    fn listen(&self, stopped: &PipeReader) {
        loop {
            let mut sources = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
            match poll(&mut sources, None) {
                Ok(_) if sources[1].revents().is_empty() => {}
                Err(Errno::INTR) => continue,
                // Without it files are looked at now and then.
                Ok(_) | Err(_) => return,
            }
            if self.read() {
                self.news.notify_one();
            }
            // Also where nothing matters: a busy folder wakes us so often at most.
            let rest = Timespec { tv_sec: 0, tv_nsec: QUIET.subsec_nanos().into() };
            let _ = poll(&mut [PollFd::new(stopped, PollFlags::IN)], Some(&rest));
        }
    }

    /// Reads what happened: whether any of it matters.
    fn read(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut matters, mut reads) = (false, 0);
        while reads < READS {
            reads += usize::from(reader.is_buffer_empty());
            let Ok(event) = reader.next() else { break };
            matters |= event.events().intersects(WHOLE) || is_named(&event, &folders);
        }
        matters
    }
}

fn is_named(event: &Event<'_>, folders: &Folders) -> bool {
    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
    folders.get(&event.wd()).zip(name).is_some_and(|(names, name)| names.contains(name))
}
