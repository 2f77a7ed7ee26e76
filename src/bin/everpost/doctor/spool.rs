//! The spool, its disk, its owner, and the clock beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpost::clock::{Clock as _, SystemClock};
use everpost::control::ClientError;
use everpost::{Settings, Status, inspect};

use super::Finding;
use super::holder::{self, Holder};
use crate::args::Cli;
use crate::environment;
use crate::eyes::{Eyes, blocking};
use crate::fault::Fault;
use crate::owner::Way;
use crate::text::{bytes, count, time};

/// Before this, 2024-01-01, no device of today has a right clock.
const FIRST: Duration = Duration::from_secs(1_704_067_200);

/// With less than this a disk is as good as full.
const LITTLE_BYTES: u64 = 16 << 20;

pub(super) async fn look(cli: &Cli, settings: &Settings) -> Vec<Finding> {
    let path = match environment::spool(cli) {
        Ok(path) => path,
        Err(fault) => return vec![Finding::of("spool", fault), clock(None)],
    };
    let here = path.clone();
    let exists = blocking(move || inspect::exists(&here)).await;
    let mut findings = Vec::new();
    let mut newest = None;
    let mut status = None;
    match exists {
        Err(fault) => findings.push(Finding::of("spool", fault)),
        Ok(false) => findings.push(Finding::warn(
            "spool",
            format!("there is no spool yet at {}", path.display()),
            "`everpost append` makes it; see that the name is right",
        )),
        Ok(true) => match inside(&path).await {
            Err(fault) => findings.push(Finding::of("spool", fault)),
            Ok((found, seen)) => {
                findings.push(damage(&path, &found));
                newest = seen;
                status = Some(found);
            }
        },
    }
    findings.extend(stranger(&path));
    if status.is_some() {
        findings.push(owner(&path).await);
    }
    findings.push(disk(&path, status.as_ref(), settings));
    findings.push(clock(newest));
    findings
}

/// What the queue says of itself, and the time of its newest event.
async fn inside(path: &Path) -> Result<(Status, Option<SystemTime>), Fault> {
    let eyes = Eyes::open(Way::to(path)).await?;
    let status = eyes.status().await?;
    let newest = match (status.pending, status.last_seq) {
        (0, _) => Vec::new(),
        (_, last) => eyes.peek(last.saturating_sub(1), 1).await?,
    };
    let newest = newest
        .first()
        .map(|line| UNIX_EPOCH + Duration::from_millis(line.time_ms));
    Ok((status, newest))
}

fn damage(path: &Path, status: &Status) -> Finding {
    let text = format!(
        "{}: {} pending, {}",
        path.display(),
        count(status.pending, "event"),
        count(status.dead_letters, "dead letter")
    );
    if let Some(fault) = &status.storage_fault {
        let advice = "mend the disk, or make room on it";
        return Finding::fail("spool", format!("{text}; disk fault: {fault}"), advice);
    }
    let new = status
        .incidents
        .iter()
        .filter(|incident| incident.number == 0)
        .count();
    let told = status.incidents.len() - new;
    match (new, told) {
        (0, 0) => Finding::ok("spool", text),
        (0, told) => Finding::warn(
            "spool",
            format!(
                "{text}; {} not acknowledged",
                count(told as u64, "incident")
            ),
            "see `everpost incidents`",
        ),
        (new, _) => Finding::fail(
            "spool",
            format!(
                "{text}; damage that is not on record yet, in {}",
                count(new as u64, "place")
            ),
            "stop the owner, copy the directory, then see `everpost verify`",
        ),
    }
}

/// A spool of another user can be looked at, and nothing else.
#[cfg(unix)]
fn stranger(path: &Path) -> Option<Finding> {
    use std::os::unix::fs::MetadataExt as _;
    let theirs = std::fs::metadata(path).ok()?.uid();
    let ours = rustix::process::geteuid().as_raw();
    (theirs != ours).then(|| {
        Finding::warn(
            "user",
            format!("the spool belongs to the user {theirs}, and this is {ours}"),
            format!("`sudo -u '#{theirs}' everpost ...` for what changes it"),
        )
    })
}

#[cfg(not(unix))]
fn stranger(_: &Path) -> Option<Finding> {
    None
}

async fn owner(path: &Path) -> Finding {
    match Way::to(path).client().status().await {
        Ok(status) => {
            let state = crate::view::state(&status.flusher, SystemClock.wall());
            Finding::ok("owner", format!("it answers; {state}"))
        }
        Err(ClientError::NoOwner { .. }) => {
            let here = path.to_owned();
            match blocking(move || Ok(holder::of(&here))).await {
                Ok(Some(holder)) => silent(&holder),
                Ok(None) => Finding::ok(
                    "owner",
                    "none answers; `everpost run` or `everpost drain` delivers",
                ),
                Err(fault) => Finding::of("owner", fault),
            }
        }
        Err(why) => Finding::of("owner", why.into()),
    }
}

/// An owner that cannot be asked.
fn silent(holder: &Holder) -> Finding {
    let pid = holder.pid;
    let program = match &holder.program {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    };
    let text = format!("process {pid}{program} has the spool open and serves no socket");
    let advice = format!(
        "it may be just opening or closing it; otherwise commands that change the spool wait for it: \
         end it (`kill {pid}`), or let it call `everpost::control::serve`"
    );
    Finding::warn("owner", text, advice)
}

/// The directory, or the nearest one above it that is there.
fn nearest(path: &Path) -> PathBuf {
    let mut above = path.ancestors().filter(|path| !path.as_os_str().is_empty());
    let found = above.find(|path| path.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

#[cfg(unix)]
fn disk(path: &Path, status: Option<&Status>, settings: &Settings) -> Finding {
    let place = nearest(path);
    let seen = match rustix::fs::statvfs(&place) {
        Ok(seen) => seen,
        Err(errno) => {
            let text = format!("{}: {errno}", place.display());
            return Finding::fail("disk", text, "see that the disk is there");
        }
    };
    if seen.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let text = format!("{} is on a read-only disk", place.display());
        return Finding::fail("disk", text, "`everpost export` still reads what is there");
    }
    let free = seen.f_bavail.saturating_mul(seen.f_frsize);
    let (used, bound) = match status {
        Some(status) => (status.disk_bytes, status.max_bytes),
        None => (0, settings.max_bytes),
    };
    let wanted = bound.saturating_sub(used);
    let kind = kind(&place);
    let text = format!(
        "{} free; the spool may grow by {}",
        bytes(free),
        bytes(wanted)
    );
    if free < LITTLE_BYTES.min(wanted) {
        return Finding::fail("disk", text, "make room on the disk");
    }
    match kind {
        Some((kind, advice)) => Finding::warn("disk", format!("{text}; it is {kind}"), advice),
        None if free < wanted => {
            Finding::warn("disk", text, "make room, or set a smaller `max_bytes`")
        }
        None => Finding::ok("disk", text),
    }
}

#[cfg(not(unix))]
fn disk(path: &Path, _: Option<&Status>, _: &Settings) -> Finding {
    let place = nearest(path);
    Finding::ok("disk", format!("{} is there", place.display()))
}

/// A file system that does not keep what it was given, or not as a disk does; and what to do.
#[cfg(target_os = "linux")]
fn kind(place: &Path) -> Option<(&'static str, &'static str)> {
    const IN_MEMORY: &str =
        "a restart of the machine loses everything; choose a directory on a disk";
    const REMOTE: &str = "whether a synced write is kept is up to the server; choose a local disk";
    const LAYER: &str = "it goes with the container; put the spool on a volume";
    let kind = rustix::fs::statfs(place).ok()?.f_type;
    // The numbers of statfs(2).
    Some(
        match u64::try_from(kind).unwrap_or_default() & 0xffff_ffff {
            0x0102_1994 => ("tmpfs", IN_MEMORY),
            0x8584_58f6 => ("ramfs", IN_MEMORY),
            0x6969 => ("NFS", REMOTE),
            0x517b | 0xff53_4d42 | 0xfe53_4d42 => ("SMB", REMOTE),
            0x0102_1997 => ("9P", REMOTE),
            0x00c3_6400 => ("Ceph", REMOTE),
            0x6573_5546 => ("FUSE", REMOTE),
            0x794c_7630 => ("the layer of a container", LAYER),
            _ => return None,
        },
    )
}

#[cfg(all(unix, not(target_os = "linux")))]
fn kind(_: &Path) -> Option<(&'static str, &'static str)> {
    None
}

/// Whether the clock can be right.
fn clock(newest: Option<SystemTime>) -> Finding {
    clock_at(SystemClock.wall(), newest)
}

fn clock_at(now: SystemTime, newest: Option<SystemTime>) -> Finding {
    let advice = "set the clock; keys and certificates are held against it";
    let text = time(now);
    if now < UNIX_EPOCH + FIRST {
        return Finding::fail("clock", text, advice);
    }
    match newest.filter(|newest| *newest > now) {
        Some(newest) => {
            let text = format!(
                "{text}, before the newest event in the spool ({})",
                time(newest)
            );
            Finding::warn("clock", text, advice)
        }
        None => Finding::ok("clock", text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_told() {
        let year = |years: u64| UNIX_EPOCH + FIRST + Duration::from_secs(years * 31_536_000);
        assert_eq!(clock_at(UNIX_EPOCH, None).verdict, Verdict::Fail);
        assert_eq!(clock_at(year(1), None).verdict, Verdict::Ok);
        assert_eq!(clock_at(year(1), Some(year(1))).verdict, Verdict::Ok);
        assert_eq!(clock_at(year(1), Some(year(2))).verdict, Verdict::Warn);
    }

    #[test]
    fn the_disk_of_a_spool_that_is_not_there_yet_is_that_of_the_directory_above() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&dir.path().join("a/b")), dir.path());
        assert_eq!(nearest(Path::new("no/such")), Path::new("."));
    }
}
