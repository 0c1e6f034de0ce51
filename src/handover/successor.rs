//! Starts the process that takes over, for `portcullis upgrade`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tokio::sync::oneshot;

/// How this gateway was started, and so how the next one is.
#[derive(Clone, Debug)]
pub(crate) struct Successor {
    /// The program's path as it was at the start: what is there by now is the new one.
    pub(crate) program: PathBuf,
    /// What comes behind it.
    pub(crate) arguments: Vec<OsString>,
}

impl Successor {
    /// Starts it on this control socket; the receiver resolves should it end. Its output goes where ours goes.
    ///
    /// # Errors
    /// There is no such program, or no room for another process.
    pub(crate) fn start(&self, control: &Path) -> io::Result<oneshot::Receiver<io::Result<ExitStatus>>> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(control).stdin(Stdio::null());
        // Sockets that a service manager gave to us are ours to give on.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        let child = command.spawn()?;
        let (ended, end) = oneshot::channel();
        let wait = move |mut child: Child| {
            // Nobody may be left to tell: when it takes over, we end first.
            let _ = ended.send(child.wait());
        };
        std::thread::Builder::new().name("successor".into()).spawn(move || wait(child))?;
        Ok(end)
    }
}
