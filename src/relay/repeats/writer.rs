//! The thread that writes down what was taken.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::files::Files;
use super::memory::Memory;
use super::record::Record;
use super::{RepeatWindows, locked};
use crate::clock::Clock;
use crate::error::Error;
use crate::millis::unix_ms;
use crate::observe;

/// Records from which on a group takes in no further request.
const GROUP_RECORDS: usize = 10_000;

/// What one request wants to have on disk.
#[derive(Debug)]
pub(super) struct Job {
    /// None if only what failed before is to be written again.
    pub(super) records: Vec<Record>,
    pub(super) done: oneshot::Sender<Result<(), Error>>,
}

/// What the thread works with. It alone changes generations.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) files: Files,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) windows: Arc<Mutex<RepeatWindows>>,
    pub(super) clock: Arc<dyn Clock>,
    /// Records of one generation.
    pub(super) records_max: usize,
}

impl Writer {
    /// Writes until no more can come. What waits at the same moment shares one sync.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let mut records = job.records;
            let mut waiting = vec![job.done];
            while records.len() < GROUP_RECORDS
                && let Ok(job) = jobs.try_recv()
            {
                records.extend(job.records);
                waiting.push(job.done);
            }
            let written = self.write(&records);
            let written = written.map_err(Error::storage("write down what was taken", &self.dir));
            for done in waiting {
                // One that does not wait any more has been told something else.
                let _ = done.send(match &written {
                    Ok(()) => Ok(()),
                    Err(error) => Err(error.again()),
                });
            }
        }
    }

    /// Has the records on disk, or, after an error, in memory: what comes again is known then, and is
    /// not answered before it is on disk as well. Nothing new is taken until then, so that only what
    /// was under way can come beyond the bound of a generation, by no more than another.
    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        let mut rest = records;
        let written = self.write_down(&mut rest);
        let mut memory = locked(&self.memory);
        memory.set_whole(written.is_ok());
        let room = (2 * self.records_max).saturating_sub(memory.len());
        memory.keep(rest.get(..room).unwrap_or(rest));
        written
    }

    fn write_down(&mut self, rest: &mut &[Record]) -> io::Result<()> {
        let again = {
            let memory = locked(&self.memory);
            (!memory.is_whole()).then(|| memory.current())
        };
        if let Some(records) = again {
            self.files.make(&records)?;
        }
        let now_ms = unix_ms(self.clock.wall());
        let window = locked(&self.windows).longest();
        if locked(&self.memory).is_outlived(now_ms, window) {
            self.turn()?;
        }
        while !rest.is_empty() {
            if self.files.taken() >= self.records_max {
                self.tell_if_too_many(now_ms, window);
                self.turn()?;
            }
            let room = self.records_max.saturating_sub(self.files.taken());
            let (part, later) = rest.split_at(room.min(rest.len()));
            self.files.append(part)?;
            locked(&self.memory).keep(part);
            *rest = later;
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let memory = &self.memory;
        self.files.turn(|| locked(memory).turn())
    }

    fn tell_if_too_many(&self, now_ms: u64, window: Duration) {
        let forgotten = locked(&self.memory).is_forgotten_at(now_ms);
        if let Some(age) = forgotten.filter(|age| *age < window) {
            observe::repeats_forgotten(&self.dir, age, window, self.records_max);
        }
    }
}
