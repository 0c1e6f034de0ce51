//! Tells a service manager how the gateway is (sd_notify(3)), where one asks to be told by `NOTIFY_SOCKET`.
//!
//! Called by `gateway` and `reload`. With `Type=notify-reload`, `systemctl start` and `reload` end when the gateway serves
//! what was asked for; `NotifyAccess=all` lets a successor say that it is the service's process now.

use sd_notify::NotifyState;

/// It serves, and this process is the service: after a take-over it is another than the one that was started.
pub(crate) fn ready() {
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// It reads its configuration anew; [`ready`] follows, whatever became of it.
pub(crate) fn reloading() {
    // Without the time, systemd takes a reload for a failure.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// How it is, in a line of `systemctl status`.
pub(crate) fn status(line: &str) {
    tell(&[NotifyState::Status(line)]);
}

/// It drains.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Without a service manager this does nothing.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the service manager: {error}; see NOTIFY_SOCKET");
    }
}
