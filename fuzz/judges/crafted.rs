//! A whole spool that was altered by a hand that knows the checksums.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use everpost::internals::{Spool, pieces};
use everpost::{Error, inspect};
use uuid::Uuid;

use super::journal::with_checksums;
use super::spool::{Image, edited, image, open, write};

/// Reads of one spool at the most: there are fewer frames and chunks in it.
const READS_MAX: u32 = 2_000;

/// Bytes in front of the body of a piece.
const PIECE_HEAD_BYTES: usize = 27;

/// Edits of the spool in `golden`, as for `spool`, whose checksums are put right. No reader can say
/// what should be in it then; but it is looked through, opened, read and closed, and all of that
/// comes to an end.
pub fn crafted(edits: &[u8], golden: &Path, scratch: &Path) {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let golden_image = image(golden);
    let queue = queue_of(&golden_image);
    let mut image = edited(edits, &golden_image);
    mend(&mut image, queue);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let spool = scratch.join(format!("crafted-{run}"));
    write(&spool, golden, &image);
    check(inspect::verify(&spool).map(drop));
    match open(&spool) {
        Ok((log, _)) => read(log),
        Err(error) => check(Err(error)),
    }
    let _ = fs::remove_dir_all(&spool);
}

/// The id of the queue, as its marker names it.
fn queue_of(image: &Image) -> Uuid {
    let marker = image.get(Path::new("spool.json")).map(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.split('"').find_map(|word| word.parse().ok())
    });
    let Some(Some(queue)) = marker else {
        panic!("the golden spool names no queue");
    };
    queue
}

/// The disk is sound, so only what is on it can be refused.
fn check(result: Result<(), Error>) {
    let refused = matches!(
        result,
        Ok(()) | Err(Error::Damaged { .. } | Error::FutureFormat { .. } | Error::NotASpool { .. })
    );
    assert!(refused, "{result:?}");
}

fn read(mut log: Spool) {
    let appended = log.ledger().appended;
    let mut next = log.cursor().saturating_add(1);
    let mut reads = 0;
    while next <= appended {
        reads += 1;
        assert!(reads < READS_MAX, "{next} of {appended}");
        let before = next;
        next = match log.read(next, 7, 4096) {
            Ok(Some(Ok(events))) => events.last().map_or(next, |stored| stored.seq),
            Ok(Some(Err(range))) => range.last,
            Ok(None) => break,
            Err(error) => return check(Err(error)),
        }
        .saturating_add(1);
        assert!(next > before, "{before} is read again and again");
    }
    assert!(log.close().is_ok());
}

fn mend(image: &mut Image, queue: Uuid) {
    for (name, bytes) in image {
        if name.starts_with("journal") {
            *bytes = with_checksums(bytes, queue).to_vec();
        } else if name.ends_with("db") {
            mend_pieces(bytes);
            let more = plain_chunks(bytes);
            bytes.extend_from_slice(&more);
        }
    }
}

/// For each chunk, one more that has its numbers and is right in everything else: no chance finds a
/// zstd frame that holds what an altered head says of it.
fn plain_chunks(db: &[u8]) -> Vec<u8> {
    let mut more = Vec::new();
    let begins = |at: &usize| db[*at..].starts_with(&[0xF5, b'e', b'p', 1, b'c']);
    for at in (0..db.len()).filter(begins) {
        let Some(head) = db.get(at + PIECE_HEAD_BYTES..at + PIECE_HEAD_BYTES + 22) else {
            continue;
        };
        let events = usize::from(head[10] % 4);
        let mut run = head[2..10].to_vec();
        run.extend_from_slice(&[head[10] % 4, 0, 0, 0]);
        for _ in 0..events {
            run.extend_from_slice(&[0; 24]);
            run.extend_from_slice(&[1, 0, 0, 0, b'1']);
        }
        let len = u32::try_from(run.len()).unwrap_or(0).to_le_bytes();
        let crc = crc32c::crc32c(&run).to_le_bytes();
        let chunk = [&[1, 0], &run[..12], &len, &crc, &run].concat();
        let number = more.len() as u64 + 1_000;
        more.extend(pieces(b'c', number, &chunk).flatten());
    }
    more
}

/// Puts the checksums right of everything that begins like a piece.
fn mend_pieces(db: &mut [u8]) {
    let mut at = 0;
    while let Some(piece) = db
        .get_mut(at..)
        .filter(|rest| rest.len() > PIECE_HEAD_BYTES)
    {
        let (head, rest) = piece.split_at_mut(PIECE_HEAD_BYTES);
        let body_max = match head {
            [0xF5, b'e', b'p', 1, ..] => 5973,
            [0xF5, b'e', b'p', 2, ..] => 723,
            _ => {
                at += 1;
                continue;
            }
        };
        let whole = u32::from_le_bytes([head[15], head[16], head[17], head[18]]) as usize;
        let index = usize::from(u16::from_be_bytes([head[13], head[14]]));
        let left = whole.saturating_sub(index * body_max);
        let len = left.min(body_max).min(rest.len());
        let body = &rest[..len];
        if len == whole {
            head[19..23].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..23]), body);
        head[23..27].copy_from_slice(&crc.to_le_bytes());
        at += PIECE_HEAD_BYTES;
    }
}
