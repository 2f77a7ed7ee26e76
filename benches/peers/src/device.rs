//! The disk below a directory: how fast it syncs, and how much was written to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::contest::Store;
use crate::stats::ms;
use crate::systems::Preallocated;

/// How often in a second 4 KiB can be overwritten in place and synced.
pub(crate) fn syncs_per_second(dir: &Path, span: Duration) -> Result<f64> {
    let took = sync_times(dir, 4096, span)?;
    Ok(1e3 * took.len() as f64 / took.iter().sum::<f64>())
}

/// How long each overwriting and syncing of so many bytes takes, in milliseconds.
pub(crate) fn sync_times(dir: &Path, bytes: usize, span: Duration) -> Result<Vec<f64>> {
    sync_times_paced(dir, bytes, span, Duration::ZERO)
}

/// As [`sync_times`], with a pause after each.
pub(crate) fn sync_times_paced(
    dir: &Path,
    bytes: usize,
    span: Duration,
    pause: Duration,
) -> Result<Vec<f64>> {
    let mut file = Preallocated::create(dir)?;
    rustix::fs::sync();
    let event = [Bytes::from(vec![b'x'; bytes])];
    let begin = Instant::now();
    let mut took = Vec::new();
    while begin.elapsed() < span {
        let one = Instant::now();
        file.append(&event)?;
        took.push(ms(one.elapsed()));
        std::thread::sleep(pause);
    }
    Ok(took)
}

/// The counters of the block device that a directory lies on.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    counters: PathBuf,
}

impl Device {
    /// Finds the device.
    ///
    /// # Errors
    /// If the file system has no block device of its own, as overlays and network mounts.
    pub(crate) fn of(dir: &Path) -> Result<Self> {
        let number = fs::metadata(dir)?.dev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let counters = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        let found = Self { counters };
        found
            .bytes_written()
            .context("the file system has no block device with counters")?;
        Ok(found)
    }

    /// Bytes written to the device since the system started, after all that waits was written.
    pub(crate) fn bytes_written(&self) -> Result<u64> {
        rustix::fs::sync();
        let text = fs::read_to_string(&self.counters)?;
        let sectors = text.split_ascii_whitespace().nth(6);
        let sectors: u64 = sectors.context("the counters are too short")?.parse()?;
        Ok(sectors * 512)
    }
}
