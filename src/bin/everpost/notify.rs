//! Tells systemd what the service is doing, as `sd_notify(3)` does: one datagram to the socket
//! named in `NOTIFY_SOCKET`. Without that variable nothing happens.

use std::io;
use std::time::Duration;

use everpost::{Error, Queue};

/// The longest time that a word may hold the service up.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(1);

/// Says it, if systemd listens. That it is not heard changes nothing.
pub(crate) fn say(state: &str) {
    if let Err(error) = send(state) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}

/// Says that settings are being read again; `READY=1` ends that.
pub(crate) fn say_reloading() {
    say(&format!("RELOADING=1\n{}", moment()));
}

/// The moment as `Type=notify-reload` wants it.
#[cfg(unix)]
fn moment() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    format!("MONOTONIC_USEC={us}")
}

#[cfg(not(unix))]
fn moment() -> String {
    String::new()
}

/// Tells the watchdog of systemd that all is well for as long as that is so: three times within
/// its limit, and only if the thread of each log has answered a question meanwhile. A question that it
/// answers without the disk is enough: what it does at the disk is done on the same thread. Ends once
/// a queue is closed: they all are then.
pub(crate) async fn keep_watch(queues: Vec<Queue>) {
    let Some(limit) = watchdog() else {
        return;
    };
    let mut ticks = tokio::time::interval(limit / 3);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut is_well = true;
    loop {
        ticks.tick().await;
        let asking = ask(&queues);
        let was_well = std::mem::replace(&mut is_well, false);
        match tokio::time::timeout(limit / 3, asking).await {
            Ok(Ok(())) => {
                say("WATCHDOG=1");
                is_well = true;
            }
            Ok(Err(Error::Closed)) => return,
            _ if !was_well => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the log does not answer, and systemd is not told that all is well");
            }
            Err(_) => {
                tracing::error!(waited = ?limit / 3, "the log does not answer, and systemd is not told that all is well");
            }
        }
    }
}

/// As [`keep_watch`] for a service without a queue: says that all is well for as long as this runs.
pub(crate) async fn keep_telling() {
    let Some(limit) = watchdog() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(limit / 3);
    loop {
        ticks.tick().await;
        say("WATCHDOG=1");
    }
}

/// Has the thread of each log answer.
async fn ask(queues: &[Queue]) -> Result<(), Error> {
    for queue in queues {
        queue.ping().await?;
    }
    Ok(())
}

/// How often systemd wants to hear that all is well: `sd_watchdog_enabled(3)`.
fn watchdog() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    let is_meant = variable("WATCHDOG_PID")
        .is_none_or(|pid| pid.parse() == Ok(std::process::id()) || pid.is_empty());
    let us: u64 = variable("WATCHDOG_USEC")
        .filter(|_| is_meant)?
        .parse()
        .ok()?;
    // Shorter than this is no limit that anything could be held to.
    (us >= 1_000).then(|| Duration::from_micros(us))
}

#[cfg(unix)]
fn send(state: &str) -> io::Result<()> {
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let name = name.as_encoded_bytes();
    let address = match name.split_first() {
        // An abstract name, which only Linux has.
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        }
        _ => {
            use std::os::unix::ffi::OsStrExt as _;
            SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))
        }
    }?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    loop {
        match socket.send_to_addr(state.as_bytes(), &address) {
            // Where the process was stopped and continued, as `signal(7)` has it for a call with
            // a time limit.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent.map(drop),
        }
    }
}

#[cfg(not(unix))]
fn send(_state: &str) -> io::Result<()> {
    Ok(())
}
