//! The witness: what is known of the journal's end should the newest of its files be lost.
//!
//! Which file was begun last and how long it is, up to which number events may have been given one,
//! and, after an orderly close, the books. So a file that is gone, cut or empty is noticed, and no
//! number is given twice.
//!
//! # Layout of the file `witness`
//!
//! Two places, at 0 and at 4096, used in turn; the one with the greater turn that checks counts.
//!
//! ```text
//!  0  u32  CRC32C of the queue id (16 bytes) followed by bytes 4.. up to the end of the envelope
//!  4  u32  length of the envelope
//!  8  u64  turn, from 1
//! 16       the envelope: `Witness` through bincode
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;
use crate::id::Seq;
use crate::ledger::Ledger;
use crate::log::codec::{self, array};
use crate::log::disk::{Disk, DiskFile, open_to_look};

/// The name of the file, in the spool.
pub(crate) const NAME: &str = "witness";

/// Numbers that are set aside at once at the least, and at the most.
const NUMBERS_MIN: u64 = 1 << 10;
pub(super) const NUMBERS_MAX: u64 = 1 << 16;

const SLOT_BYTES: usize = 4096;
const HEAD_BYTES: usize = 16;

/// What is written down beside the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Witness {
    /// The generation that was begun last.
    pub(crate) generation: u64,
    /// The file that it is in.
    pub(crate) file: u32,
    /// Bytes of that file.
    pub(crate) file_bytes: u64,
    /// Whether the beginning of that generation was durable when this was written.
    pub(crate) synced: bool,
    /// Events are given numbers up to this one before more is written here.
    pub(crate) numbers: Seq,
    /// The books, if nothing came after them.
    pub(crate) closed: Option<Ledger>,
}

/// What the witness of a spool says; `None` if there is none that checks.
pub(crate) fn read(spool: &Path, queue: Uuid) -> Result<Option<Witness>, Error> {
    Ok(read_turn(spool, queue)?.map(|(_, witness)| witness))
}

fn read_turn(spool: &Path, queue: Uuid) -> Result<Option<(u64, Witness)>, Error> {
    let path = spool.join(NAME);
    let read = || {
        let file = open_to_look(&path)?;
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        let len = DiskFile::len(&file)?.min(bytes.len() as u64);
        bytes.truncate(usize::try_from(len).unwrap_or(0));
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let slots = bytes.chunks(SLOT_BYTES);
            Ok(slots
                .filter_map(|slot| parse(slot, queue))
                .max_by_key(|(turn, _)| *turn))
        }
        Err(error) if std::io::Error::kind(&error) == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::storage("read the witness of the journal", path)(
            source,
        )),
    }
}

fn parse(slot: &[u8], queue: Uuid) -> Option<(u64, Witness)> {
    let crc = u32::from_le_bytes(array(slot.get(..4)?)?);
    let len = u32::from_le_bytes(array(slot.get(4..8)?)?) as usize;
    let turn = u64::from_le_bytes(array(slot.get(8..HEAD_BYTES)?)?);
    let checked = slot.get(4..HEAD_BYTES.checked_add(len)?)?;
    if checksum(queue, checked) != crc {
        return None;
    }
    let witness: Witness =
        codec::decode(slot.get(HEAD_BYTES..HEAD_BYTES + len)?, "a witness").ok()?;
    let books_can_be = |books: Ledger| books.settled() <= books.appended;
    let can_be = witness.numbers < Seq::MAX && witness.closed.is_none_or(books_can_be);
    can_be.then_some((turn, witness))
}

fn bytes(turn: u64, witness: &Witness, queue: Uuid) -> Vec<u8> {
    // A few numbers: far below the limit of an envelope.
    let body = codec::encode(witness).unwrap_or_default();
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let checked = [&len.to_le_bytes(), &turn.to_le_bytes()[..], &body].concat();
    [&checksum(queue, &checked).to_le_bytes()[..], &checked].concat()
}

fn checksum(queue: Uuid, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(queue.as_bytes()), bytes)
}

/// The file, for the owner of the journal.
#[derive(Debug)]
pub(super) struct WitnessFile {
    disk: Arc<dyn Disk>,
    spool: PathBuf,
    queue: Uuid,
    turn: u64,
    said: Witness,
    /// Numbers that were set aside since the journal was opened.
    set_aside: u64,
    /// None before the first use, and after a failure: then it is made anew.
    file: Option<Box<dyn DiskFile>>,
}

impl WitnessFile {
    pub(super) fn new(disk: Arc<dyn Disk>, spool: &Path, queue: Uuid) -> Result<Self, Error> {
        let (turn, said) = read_turn(spool, queue)?.unwrap_or_default();
        let file = disk.open(&spool.join(NAME)).ok();
        Ok(Self {
            spool: spool.to_owned(),
            queue,
            turn,
            said,
            set_aside: 0,
            file: file.filter(|file| file.len().is_ok_and(|len| len == 2 * SLOT_BYTES as u64)),
            disk,
        })
    }

    /// Whether there is a file to write to.
    pub(super) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// What was said last.
    #[cfg(test)]
    pub(super) fn said(&self) -> Witness {
        self.said
    }

    /// Says where the journal stands. No number is taken back, but by an orderly close, which has
    /// given no more than `appended`.
    pub(super) fn testify(
        &mut self,
        stands: Witness,
        appended: Seq,
        sync: bool,
    ) -> Result<(), Error> {
        let mut numbers = self.said.numbers.max(appended);
        // The first events after an opening find their numbers set aside.
        if self.set_aside == 0 {
            self.set_aside = NUMBERS_MIN;
            let more = appended.saturating_add(NUMBERS_MIN);
            numbers = numbers.max(more).min(Seq::MAX - 1);
        }
        if stands.closed.is_some() {
            numbers = appended;
        }
        let witness = Witness {
            numbers,
            synced: sync,
            ..stands
        };
        self.say(witness, sync)
    }

    /// Sees to it that numbers up to `last` are set aside before they are given to events: should
    /// the newest file be lost, they are not given again. With `sync`, also after a power cut.
    pub(super) fn set_aside(&mut self, last: Seq, sync: bool) -> Result<(), Error> {
        let said = self.said;
        if last <= said.numbers && said.closed.is_none() {
            return Ok(());
        }
        // As many again as so far: few writes for many events, few numbers for few.
        let more = self.set_aside.clamp(NUMBERS_MIN, NUMBERS_MAX);
        let numbers = last.saturating_add(more).min(Seq::MAX - 1);
        let new = numbers - said.numbers.min(numbers);
        self.set_aside = self.set_aside.saturating_add(new);
        let witness = Witness {
            numbers,
            closed: None,
            ..said
        };
        self.say(witness, sync)
    }

    /// Says it; with `sync` it is durable when this returns. A file that refuses is made anew.
    pub(super) fn say(&mut self, witness: Witness, sync: bool) -> Result<(), Error> {
        self.turn += 1;
        let bytes = bytes(self.turn, &witness, self.queue);
        let written = self.file.as_ref().map(|file| {
            let slot = self.turn % 2 * SLOT_BYTES as u64;
            file.write_at(&bytes, slot)
                .and_then(|()| if sync { file.sync() } else { Ok(()) })
        });
        if !matches!(written, Some(Ok(()))) {
            self.file = None;
            self.file = Some(self.make(&bytes)?);
        }
        self.said = witness;
        Ok(())
    }

    /// Makes what was said durable.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.say(self.said, true)
    }

    /// A new file that says this, durably: the one before it is there until then.
    fn make(&self, bytes: &[u8]) -> Result<Box<dyn DiskFile>, Error> {
        let path = self.spool.join(NAME);
        let new = self.spool.join("witness.new");
        let make = || {
            let file = self.disk.create(&new, 2 * SLOT_BYTES as u64)?;
            file.write_at(bytes, self.turn % 2 * SLOT_BYTES as u64)?;
            file.sync()?;
            self.disk.rename(&new, &path)?;
            self.disk.sync_dir(&self.spool)?;
            Ok(file)
        };
        make().map_err(Error::storage("write the witness of the journal", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::disk::RealDisk;

    const QUEUE: Uuid = Uuid::from_u128(7);

    fn said(numbers: Seq) -> Witness {
        Witness {
            generation: 3,
            file: 2,
            numbers,
            ..Witness::default()
        }
    }

    #[test]
    fn the_last_word_that_checks_counts_and_no_altered_one_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), QUEUE).unwrap(), None);
        let mut file = WitnessFile::new(Arc::new(RealDisk), dir.path(), QUEUE).unwrap();
        for numbers in 1..=4 {
            file.say(said(numbers), numbers % 2 == 0).unwrap();
            assert_eq!(read(dir.path(), QUEUE).unwrap(), Some(said(numbers)));
        }
        assert_eq!(read(dir.path(), Uuid::from_u128(8)).unwrap(), None);
        // Torn while it was written, it says what it said before.
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let len = bytes(4, &said(4), QUEUE).len();
        for bit in 0..len * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert_eq!(read(dir.path(), QUEUE).unwrap(), Some(said(3)), "bit {bit}");
        }
        std::fs::write(&path, "x").unwrap();
        assert_eq!(read(dir.path(), QUEUE).unwrap(), None);
        let mut file = WitnessFile::new(Arc::new(RealDisk), dir.path(), QUEUE).unwrap();
        file.say(said(9), false).unwrap();
        assert_eq!(read(dir.path(), QUEUE).unwrap(), Some(said(9)));
    }
}
