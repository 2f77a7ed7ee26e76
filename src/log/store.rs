//! One sled database that is written and never read: the only file that names sled.
//!
//! sled is the pen, not the eye (I12): it is given only directories that were made for it and hold
//! nothing. What it wrote is found by a scan of the file (`piece.rs`), since sled, when it opens a
//! file, zeroes what it does not understand (sled 0.34.7 `src/pagecache/iterator.rs:129`).
//!
//! Everything here answers to what sled 0.34.7 really does:
//!
//! - `flush` is not an fdatasync on Linux (`src/pagecache/iobuf.rs:728`), so [`Store::sync`] adds
//!   one on a handle of its own, opened before anything is written: the system reports a failed
//!   write-back once to each handle that was already open.
//! - sled writes a leaf of up to 17 pieces again every ten inserts, splits it, and writes over log
//!   segments whose content it has written elsewhere. So that what was synced is not written over
//!   before its copy is durable, a store syncs by itself before 32 KiB of pieces have gathered,
//!   4 KiB in a small store, or four times as many from [`Store::put_last`]
//!   ([`Layout::unsynced_bytes`]). With incompressible values of many pieces it was seen to write
//!   270 KB at most between two syncs, half of a log segment, and 350 KB with values written again,
//!   two thirds; in a small store 34 KB and 45 KB, the same parts. With `put_last`, which fills
//!   leaves that are not written again, it was 165 KB at most, a third.
//! - It panics when an fsync fails in `Drop` (`src/pagecache/logger.rs:467`), so every call is
//!   guarded. A program built with `panic = "abort"` has no such guard.
//! - Its waits have no timeout (`src/pagecache/iobuf.rs:997`). The waits for a flush and for
//!   opening, the places where the disk is waited for, are given up after a minute; the database
//!   is then left alone for good, since dropping it would wait in the same place. Dropping one
//!   that is flushed waits for nothing.
//! - Its pool of threads is one for the process, and stands still if many databases want it at
//!   once (`gate.rs`) or if the system gave it no threads (`threads.rs`).
//!
//! After any failed write the store takes no more writes: sled's own state is in doubt, and a
//! second fdatasync that succeeds proves nothing.
//!
//! A store that is [closed](Store::close) gets a `sum` beside its file: length and CRC32C of all of
//! it. Nothing is ever written to it again, so a bit that changes anywhere is noticed.
//!
//! Values are split into pieces as `piece.rs` lays out; one counts only if all its pieces are
//! there and its checksum holds. Only plain inserts are used: a batch takes a lock that all
//! databases of the process share (`src/concurrency_control.rs:23`).

mod gate;
mod threads;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::gate::{GATE, Place};
use super::disk::{keep_path_private, make_dir, sync_data, sync_file, sync_names};
use super::piece::{self, Key, Layout};
use super::sum;
use super::sync::wait_for;
use crate::ending::panic_text;
use crate::error::Error;
use crate::observe;

/// Cache of one database. sled counts roughly; several times this is used at worst.
const CACHE_BYTES: u64 = 8 << 20;

/// Empty places taken behind a value, so many that the last leaf has no others: it has 16 entries
/// at the most.
const PLACES_BEHIND: usize = 16;

/// What taking a place counts for. sled was seen to write 370 bytes for one, in its leaf and in
/// what is above that.
const PLACE_BYTES: u64 = 512;

/// How many times as many bytes of pieces may wait for a sync if nothing is written again for them.
const CROWDED: u64 = 4;

/// How long a flush or an opening may take, and how long no store may come out of the gate. A slow
/// disk takes seconds; a flush that lost its wake-up takes for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// One sled database.
pub(crate) struct Store {
    path: PathBuf,
    layout: Layout,
    /// Taken out only to be dropped or abandoned.
    db: Option<sled::Db>,
    file: File,
    unsynced_bytes: u64,
    stopped: Option<(io::ErrorKind, String)>,
    /// What sled has written at each sync, if a test asks.
    #[cfg(test)]
    watch: Option<Vec<u64>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .field("unsynced_bytes", &self.unsynced_bytes)
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Makes a new store in a directory that does not exist; when this returns, its files and their
    /// names are durable.
    ///
    /// [`Error::Storage`] if the system refuses, [`Error::Damaged`] if sled does.
    pub(crate) fn create(path: &Path, layout: Layout) -> Result<Self, Error> {
        make_dir(path)?;
        let config = sled::Config::new()
            .path(path)
            .segment_size(layout.log_segment_bytes())
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        threads::probe().map_err(Error::no_thread("have threads for a store"))?;
        let db = guarded("make a store", path, || open_within(config))?;
        // What sled made under an odd umask.
        keep_all_private(path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.join("db"))
            .map_err(Error::storage("open a store's file", path.join("db")))?;
        let store = Self {
            path: path.to_path_buf(),
            layout,
            db: Some(db),
            file,
            unsynced_bytes: 0,
            stopped: None,
            #[cfg(test)]
            watch: None,
        };
        store.sync_names()?;
        sync_names(path.parent().unwrap_or(Path::new(".")))?;
        Ok(store)
    }

    /// Ends it: sled lets go of the file, and the sum of all its bytes is put beside it. Without
    /// one, if that fails, it is only known less well whether the file was damaged.
    pub(crate) fn close(mut self) {
        let was_good = self.stopped.is_none() && self.db.is_some() && self.sync().is_ok();
        let path = self.path.clone();
        drop(self);
        if was_good && let Err(error) = sum::write(&path) {
            observe::no_sum(&path, &error);
        }
    }

    /// The directory it is in has another name now. sled uses none.
    pub(crate) fn renamed(&mut self, path: &Path) {
        self.path = path.to_path_buf();
    }

    /// Makes durable what sled leaves to chance when it creates: the files and their names.
    fn sync_names(&self) -> Result<(), Error> {
        for name in ["conf", "db"] {
            let path = self.path.join(name);
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| sync_file(&file))
                .map_err(Error::storage("sync a store's file", path))?;
        }
        sync_names(&self.path.join("blobs"))?;
        sync_names(&self.path)
    }

    /// Why no more is written, once a write has failed.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// How it is divided.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// What waits for a sync: bytes of pieces, and four times those that make sled write others
    /// again.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes
    }

    /// Writes a value. It is durable after the next [`sync`](Self::sync), and may be sooner.
    pub(crate) fn put(&mut self, key: Key, value: &[u8]) -> Result<(), Error> {
        self.fitting(value)?;
        for (name, piece) in piece::split(self.layout, key, value) {
            self.make_room(CROWDED * piece.len() as u64)?;
            self.write("write to a store", |db, _| db.insert(name, piece).map(drop))?;
        }
        Ok(())
    }

    /// Writes a value whose number is greater than that of any other of its space, so that each of
    /// its pieces is written once. Durable like any other.
    ///
    /// sled writes a leaf again, with all that is in it, when it has been changed ten times or is
    /// split at 17 entries. So the places of all pieces are taken first, with entries of no bytes,
    /// and more places behind them: leaves split while there is nothing in them. Each is left with
    /// nine, which are then filled, and that is less than ten changes. The empty entries that stay
    /// behind the last piece mean nothing to a reader.
    pub(crate) fn put_last(&mut self, key: Key, value: &[u8]) -> Result<(), Error> {
        if self.layout == Layout::Small {
            // There, a value has so few pieces that the places would take more than they save.
            return self.put(key, value);
        }
        let bytes = self.fitting(value)?;
        let pieces = self.layout.pieces(bytes);
        for index in (0..=u16::MAX).take(pieces + PLACES_BEHIND) {
            self.make_room(PLACE_BYTES)?;
            let place = key.piece(index);
            self.write("write to a store", |db, _| {
                db.insert(place, &[][..]).map(drop)
            })?;
        }
        for (name, piece) in piece::split(self.layout, key, value) {
            self.make_room(piece.len() as u64)?;
            self.write("write to a store", |db, _| db.insert(name, piece).map(drop))?;
        }
        Ok(())
    }

    fn fitting(&self, value: &[u8]) -> Result<piece::Whole, Error> {
        let (bytes, max) = (value.len() as u64, self.layout.value_bytes_max());
        if bytes > max {
            return Err(Error::TooLarge {
                bytes,
                max,
                setting: "chunk_bytes",
            });
        }
        Ok(piece::Whole::of(value))
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        if self.unsynced_bytes + bytes > self.layout.unsynced_bytes() {
            self.sync()?;
        }
        self.unsynced_bytes += bytes;
        Ok(())
    }

    /// Makes everything written so far durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.write("flush a store", flush)?;
        #[cfg(test)]
        if let Some(mut watch) = self.watch.take() {
            watch.push(tests::log_bytes(self));
            self.watch = Some(watch);
        }
        let synced = sync_data(&self.file);
        if let Err(source) = synced {
            let error = Error::storage("sync a store", self.path.join("db"))(source);
            self.stop(&error);
            return Err(error);
        }
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Runs a write, inside the gate; after any error there are no more.
    fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&sled::Db, Place) -> sled::Result<T>,
    ) -> Result<T, Error> {
        if let Some((kind, text)) = &self.stopped {
            let text = format!("stopped since an earlier write failed: {text}");
            return Err(Error::storage(action, &self.path)(io::Error::new(
                *kind, text,
            )));
        }
        let result = self.call(action, |db| match GATE.enter(PATIENCE) {
            Some(place) => work(db, place),
            None => Err(no_answer().into()),
        });
        if let Err(error) = &result {
            self.stop(error);
            if is_timeout(error) {
                // Dropping it would wait where the flush waits; its memory is given up instead.
                std::mem::forget(self.db.take());
            }
        }
        result
    }

    fn stop(&mut self, error: &Error) {
        let cause = match error {
            Error::Storage { source, .. } => (source.kind(), source.to_string()),
            other => (io::ErrorKind::Other, other.to_string()),
        };
        self.stopped.get_or_insert(cause);
    }

    fn call<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, Error> {
        match &self.db {
            Some(db) => guarded(action, &self.path, || work(db)),
            None => Err(Error::storage(action, &self.path)(io::Error::new(
                io::ErrorKind::TimedOut,
                "the store was given up",
            ))),
        }
    }

    /// Writes the first pieces of a value, as a crash in the middle would leave it.
    #[cfg(test)]
    pub(crate) fn put_part(&mut self, key: Key, value: &[u8], pieces: usize) {
        for (name, piece) in piece::split(self.layout, key, value).take(pieces) {
            self.write("test", |db, _| db.insert(name, piece).map(drop))
                .unwrap();
        }
    }

    /// Makes every further write fail, as on a full disk.
    #[cfg(test)]
    pub(crate) fn fail_for_test(&mut self) {
        let full = || io::Error::new(io::ErrorKind::StorageFull, "no room");
        let failed = self.write("test", |_, _| Err::<(), _>(full().into()));
        assert!(failed.unwrap_err().is_out_of_room());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Dropping flushes too, and waits for that without end.
        if self.db.is_some() && self.unsynced_bytes > 0 {
            self.stopped = None;
            let _ = self.write("flush a store", flush);
        }
        let db = self.db.take();
        // sled unwraps the result of an fsync here. What was promised is synced already.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
    }
}

/// Flushes; has its place inside for as long as sled is busy with it, even if that is longer than
/// a caller waits for it.
fn flush(db: &sled::Db, place: Place) -> sled::Result<usize> {
    // The future is polled here and now, so nothing is spawned but sled's own work.
    let flushed = wait_for(db.flush_async(), PATIENCE, place);
    flushed.unwrap_or_else(|| Err(no_answer().into()))
}

fn no_answer() -> io::Error {
    let text = "no answer from the disk within a minute";
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Runs a call of sled: its errors and its panics become ours.
fn guarded<T>(
    action: &'static str,
    path: &Path,
    work: impl FnOnce() -> sled::Result<T>,
) -> Result<T, Error> {
    let what = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(sled::Error::Io(source))) => return Err(Error::storage(action, path)(source)),
        // What sled calls a bug is a thread of its pool that ended: no fault of the file.
        Ok(Err(error @ sled::Error::ReportableBug(_))) => {
            return Err(Error::storage(action, path)(io::Error::other(
                error.to_string(),
            )));
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("sled panicked: {}", panic_text(panic.as_ref())),
    };
    let path = path.to_path_buf();
    Err(Error::Damaged { what, path })
}

fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Storage { source, .. } if source.kind() == io::ErrorKind::TimedOut)
}

/// Opens the database on a thread of its own, since that waits without end for a pool that has no
/// thread, or for a disk.
fn open_within(config: sled::Config) -> sled::Result<sled::Db> {
    match threads::within(PATIENCE, move || config.open())? {
        Some(opened) => opened,
        None => Err(no_answer().into()),
    }
}

/// Takes all rights to what is in a store from every user but the owner, sled's snapshots included,
/// and sees that the owner has them, whatever the umask was. Links are left alone.
fn keep_all_private(path: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(Error::storage("open a store", path))? {
        let entry = entry.map_err(Error::storage("open a store", path))?;
        match entry.file_type() {
            Ok(kind) if kind.is_file() => keep_path_private(&entry.path(), 0o600)?,
            Ok(kind) if kind.is_dir() => keep_path_private(&entry.path(), 0o700)?,
            _ => {}
        }
    }
    Ok(())
}

/// Bytes of a block of the disk, as most file systems have them.
const BLOCK_BYTES: u64 = 4 << 10;

/// Bytes that a directory takes on the disk, with the files and directories in it: whole blocks,
/// and one for its names. 0 if it is not there.
pub(crate) fn dir_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let entries = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => dir_bytes(&entry.path()),
        Ok(meta) => meta.len().next_multiple_of(BLOCK_BYTES),
        // Gone since it was listed.
        Err(_) => 0,
    });
    BLOCK_BYTES + entries.sum::<u64>()
}

#[cfg(test)]
mod tests;
