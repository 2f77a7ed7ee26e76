//! A handle on a journal file that two threads may sync, and that remembers a failure for both.
//!
//! After a failed fdatasync the system may have dropped the pages, and it says so only once: the
//! next fdatasync of the same handle is a success. So the syncs of a file take turns, and one
//! that comes after one that failed is an error too.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::log::disk::DiskFile;

/// An open journal file.
#[derive(Debug)]
pub(super) struct Handle {
    file: Box<dyn DiskFile>,
    failed: AtomicBool,
    turn: Mutex<()>,
}

impl Handle {
    pub(super) fn new(file: Box<dyn DiskFile>) -> Arc<Self> {
        Arc::new(Self {
            file,
            failed: AtomicBool::new(false),
            turn: Mutex::new(()),
        })
    }

    /// Whether a write or a sync of it failed: nothing it says is trusted any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Writes all of `bytes` at `offset`. A sync under way is not waited for.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.file.write_at(bytes, offset);
        self.note(&written);
        written
    }

    /// Makes durable what was written before.
    pub(super) fn sync(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_failed() {
            return Err(failed_before());
        }
        let synced = self.file.sync();
        self.note(&synced);
        synced
    }

    fn note(&self, result: &io::Result<()>) {
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
    }
}

/// Why a file that failed takes nothing more.
pub(super) fn failed_before() -> io::Error {
    io::Error::other("an earlier write or sync of this file failed")
}

/// A sync of the current file that may be done on another thread, while more is written to it.
#[derive(Debug)]
pub(crate) struct Later {
    pub(super) handle: Arc<Handle>,
    pub(super) path: PathBuf,
    pub(super) through: Through,
}

/// How far a file is synced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Through {
    /// The use of the file that is meant.
    pub(super) generation: u64,
    /// The end of what was written when the sync was asked for.
    pub(super) offset: u64,
}

impl Later {
    /// Syncs, and gives how far.
    pub(crate) fn sync(self) -> Result<Through, Error> {
        let synced = self.handle.sync();
        synced.map_err(Error::storage("sync the journal", &self.path))?;
        Ok(self.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A file whose first sync fails, after it was told to go on, as all others succeed.
    #[derive(Debug)]
    struct FailsOnce {
        failed: AtomicBool,
        began: Sender<()>,
        gate: Mutex<Receiver<()>>,
    }

    impl DiskFile for FailsOnce {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            if self.failed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            self.began.send(()).unwrap();
            let _ = self.gate.lock().unwrap().recv();
            Err(io::Error::other("injected"))
        }
    }

    /// The system tells of lost pages once. Were it told to a sync on the other thread, and the
    /// commit beside it then succeeded, the commit would acknowledge what is not on the disk.
    #[test]
    fn i1_a_sync_beside_one_that_fails_does_not_succeed() {
        let (began, beginning) = channel();
        let (open_gate, gate) = channel();
        let handle = Handle::new(Box::new(FailsOnce {
            failed: AtomicBool::new(false),
            began,
            gate: Mutex::new(gate),
        }));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| handle.sync());
            beginning.recv().unwrap();
            // Writing goes on meanwhile.
            handle.write_at(b"more", 0).unwrap();
            let second = scope.spawn(|| handle.sync());
            drop(open_gate);
            first.join().unwrap().unwrap_err();
            second.join().unwrap().unwrap_err();
        });
        assert!(handle.has_failed());
        handle.sync().unwrap_err();
    }
}
