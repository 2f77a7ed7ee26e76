//! What was found wrong with the spool: on record, or about to be.

use std::sync::Arc;

use crate::error::Error;
use crate::incident::{Finding, Incident};
use crate::log::dir::SpoolDir;
use crate::log::incidents::Record;
use crate::observe;

/// The record, and what is not in it yet.
#[derive(Debug)]
pub(super) struct Findings {
    record: Record,
    /// What was found and could not be put on record yet.
    waiting: Vec<Finding>,
    /// The incidents that no person has seen; `None` if there are none.
    unseen: Option<Arc<Vec<Incident>>>,
}

impl Findings {
    pub(super) fn new(record: Record) -> Self {
        let mut findings = Self {
            record,
            waiting: Vec::new(),
            unseen: None,
        };
        findings.count_unseen();
        findings
    }

    pub(super) fn all(&self) -> &[Incident] {
        self.record.all()
    }

    /// The incidents that no person has seen.
    pub(super) fn unseen(&self) -> Option<Arc<Vec<Incident>>> {
        self.unseen.clone()
    }

    /// Whether anything waits to be put on record.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts on record, durably, what is not there yet, before anything is done because of it (I13).
    /// Gives what was put there.
    pub(super) fn put(
        &mut self,
        found: &[Finding],
        dir: &SpoolDir,
        now_ms: u64,
    ) -> Result<Vec<Incident>, Error> {
        let news = self.record.news(found);
        if news.is_empty() {
            return Ok(Vec::new());
        }
        for finding in &news {
            observe::incident(finding);
        }
        let before = self.record.clone();
        let added = self.record.add(news, now_ms);
        self.write(before, dir)?;
        Ok(added)
    }

    /// As [`put`](Self::put), with what waits. All of it waits if the disk refuses.
    pub(super) fn put_waiting(
        &mut self,
        found: Vec<Finding>,
        dir: &SpoolDir,
        now_ms: u64,
    ) -> Result<(), Error> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend(found);
        let put = self.put(&waiting, dir, now_ms);
        if put.is_err() {
            self.waiting = waiting;
        }
        put.map(drop)
    }

    /// Notes, durably, that a person has seen one of them, or all. Gives how many that concerned.
    pub(super) fn acknowledge(
        &mut self,
        number: Option<u64>,
        dir: &SpoolDir,
        now_ms: u64,
    ) -> Result<u64, Error> {
        let before = self.record.clone();
        let count = self.record.acknowledge(number, now_ms);
        if count > 0 {
            self.write(before, dir)?;
        }
        Ok(count)
    }

    fn write(&mut self, before: Record, dir: &SpoolDir) -> Result<(), Error> {
        let written = dir.with_ballast(|| self.record.write(dir.path()));
        if written.is_err() {
            self.record = before;
        }
        self.count_unseen();
        written
    }

    fn count_unseen(&mut self) {
        let unseen = self.record.unseen();
        self.unseen = (!unseen.is_empty()).then(|| Arc::new(unseen));
    }
}
