//! The sum of a file that is never written again: its length and its checksum, beside it.
//!
//! What is read of a store is checked piece by piece, but most of its file is sled's own. With the
//! sum, damage is noticed wherever it is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::disk::{make_own, open_to_look, sync_file};
use super::sheet;

const NAME: &str = "sum";

/// Bytes read at a time.
const BLOCK_BYTES: usize = 128 << 10;

/// Length and CRC32C of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    len: u64,
    crc: u32,
}

impl Sum {
    /// Takes the next bytes in.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }
}

/// What stands beside the file `db` of a store; `None` if there is nothing, or nothing that checks:
/// the store was not closed.
pub(crate) fn read(db: &Path) -> Option<Sum> {
    let mut bytes = Vec::new();
    let file = open_to_look(&db.with_file_name(NAME)).ok()?;
    file.take(256).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(sheet::parse(&bytes)?).ok()?;
    let (len, crc) = text.trim_end().split_once(' ')?;
    Some(Sum {
        len: len.parse().ok()?,
        crc: u32::from_str_radix(crc, 16).ok()?,
    })
}

/// Puts the sum of its file beside a store that is closed. A crash leaves none, or one that does
/// not check.
pub(super) fn write(store: &Path) -> io::Result<()> {
    let mut sum = Sum::default();
    let mut db = File::open(store.join("db"))?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match db.read(&mut block)? {
            0 => break,
            n => sum.add(block.get(..n).unwrap_or_default()),
        }
    }
    let text = format!("{} {:08x}\n", sum.len, sum.crc);
    let mut file = make_own(&store.join(NAME))?;
    file.write_all(&sheet::bytes(text.as_bytes()))?;
    sync_file(&file)
}
