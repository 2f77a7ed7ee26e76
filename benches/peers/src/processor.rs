//! Where a thread runs, and what that is worth to one that waits for the disk.
//!
//! One processor takes the interrupts of a disk. A thread that waits for it there goes on at once;
//! on another one, the processor has to be woken first. Whether a producer happens to be here or
//! there is worth more than what some systems differ by.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::device;

/// The processors that this process may use.
pub(crate) fn all() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|at| allowed.is_set(*at))
        .collect())
}

/// Keeps this thread, and those that it starts, on a processor.
pub(crate) fn stay_on(processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).context("cannot stay on a processor")
}

/// As [`device::syncs_per_second`], on a processor.
pub(crate) fn syncs_per_second(dir: &Path, span: Duration, processor: usize) -> Result<f64> {
    let measure = || {
        stay_on(processor)?;
        device::syncs_per_second(dir, span)
    };
    std::thread::scope(|scope| scope.spawn(measure).join())
        .map_err(|_| anyhow!("the thread panicked"))?
}
