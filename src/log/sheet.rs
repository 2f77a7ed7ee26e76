//! A sheet: a small file that is replaced as a whole, with a checksum in front of its content.
//!
//! ```text
//! everpost-sheet 1 <CRC32C of the content, 8 hex digits>\n
//! the content
//! ```
//!
//! It is written as `<name>.new`, synced, renamed, and the directory synced. So a crash leaves the
//! old one or the new one, and whatever does not check was damaged.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::disk::{make_own, open_to_look, sync_dir, sync_file};
use crate::error::Error;

const HEAD: &str = "everpost-sheet 1 ";

/// Bytes that are read of a sheet at the most: a longer one is not believed.
const BYTES_MAX: u64 = 4 << 20;

/// What is under a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sheet {
    Missing,
    Damaged,
    Content(Vec<u8>),
}

/// Reads a sheet; if it has no name yet, the one that was about to take it.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Sheet, Error> {
    match read_file(&dir.join(name))? {
        Sheet::Missing => match read_file(&new_path(dir, name)) {
            // It was being written for the first time: no call that writes it has returned.
            Ok(Sheet::Damaged) | Err(_) => Ok(Sheet::Missing),
            found => found,
        },
        found => Ok(found),
    }
}

fn read_file(path: &Path) -> Result<Sheet, Error> {
    let read = || {
        let mut bytes = Vec::new();
        let file = open_to_look(path)?;
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    };
    match read() {
        Ok(bytes) => Ok(parse(&bytes).map_or(Sheet::Damaged, Sheet::Content)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Sheet::Missing),
        Err(source) => Err(Error::storage("read a file of the spool", path)(source)),
    }
}

/// The content of a sheet that checks.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(HEAD.as_bytes())?;
    let (sum, rest) = rest.split_at_checked(8)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    let content = rest.strip_prefix(b"\n")?;
    (crc32c::crc32c(content) == sum).then(|| content.to_vec())
}

/// The bytes of a sheet with this content.
pub(crate) fn bytes(content: &[u8]) -> Vec<u8> {
    let head = format!("{HEAD}{:08x}\n", crc32c::crc32c(content));
    [head.as_bytes(), content].concat()
}

/// Replaces a sheet, durably.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    write_new(dir, name, &bytes(content))?;
    take_name(dir, name)
}

/// Writes what is about to take the name, durably but for that.
fn write_new(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let new = new_path(dir, name);
    make_own(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| sync_file(&file)))
        .map_err(Error::storage("write a file of the spool", &new))
}

fn take_name(dir: &Path, name: &str) -> Result<(), Error> {
    let path = dir.join(name);
    fs::rename(new_path(dir, name), &path)
        .and_then(|()| sync_dir(dir))
        .map_err(Error::storage("write a file of the spool", &path))
}

fn new_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_the_old_one_or_the_new_one_and_no_altered_one_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), "s").unwrap(), Sheet::Missing);
        fs::write(dir.path().join("s.new"), "torn").unwrap();
        assert_eq!(read(dir.path(), "s").unwrap(), Sheet::Missing);
        fs::write(dir.path().join("s.new"), bytes(b"whole")).unwrap();
        assert_eq!(
            read(dir.path(), "s").unwrap(),
            Sheet::Content(b"whole".to_vec())
        );
        replace(dir.path(), "s", b"one").unwrap();
        write_new(dir.path(), "s", &bytes(b"two")).unwrap();
        assert_eq!(
            read(dir.path(), "s").unwrap(),
            Sheet::Content(b"one".to_vec())
        );
        let whole = bytes(b"one");
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A digit in upper case is the same number.
            assert!(
                parse(&bad).is_none_or(|content| content == b"one"),
                "bit {bit}"
            );
        }
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
