//! A backlog as the least that a compressed log could be: a file of zstd frames, and a thread that
//! reads and unpacks it ahead of what posts it. No checksum, no cursor, no way to append.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::client::BATCH_EVENTS;

/// Bytes of events in a frame, as in a chunk of everpost.
const FRAME_BYTES: usize = 256 << 10;

/// Batches unpacked ahead at the most.
const AHEAD: usize = 2;

/// Such a file.
#[derive(Debug)]
pub(crate) struct Packed {
    path: PathBuf,
}

impl Packed {
    /// Writes one. Each event has an id of 16 bytes and a length before it.
    pub(crate) fn create(dir: &Path, pool: &[Bytes], events: usize) -> Result<Self> {
        let path = dir.join("packed");
        let mut file = BufWriter::new(File::create(&path)?);
        let mut packer = zstd::bulk::Compressor::new(1)?;
        let mut frame = Vec::new();
        for (at, event) in (1..=events).zip(pool.iter().cycle()) {
            frame.extend_from_slice(b"\x01\x9a\x00\x00\x00\x00");
            frame.extend(std::iter::repeat_with(|| fastrand::u8(..)).take(10));
            frame.extend_from_slice(&u32::try_from(event.len())?.to_be_bytes());
            frame.extend_from_slice(event);
            if frame.len() >= FRAME_BYTES || at == events {
                let packed = packer.compress(&frame)?;
                file.write_all(&u32::try_from(frame.len())?.to_be_bytes())?;
                file.write_all(&u32::try_from(packed.len())?.to_be_bytes())?;
                file.write_all(&packed)?;
                frame.clear();
            }
        }
        file.flush()?;
        Ok(Self { path })
    }

    /// Begins to read it on a thread of its own, and gives the batches.
    pub(crate) fn batches(&self) -> Result<mpsc::Receiver<Result<Vec<Bytes>>>> {
        let file = BufReader::new(File::open(&self.path)?);
        let (sender, batches) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            if let Err(error) = unpack(file, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(batches)
    }
}

fn unpack(mut file: impl Read, batches: &mpsc::Sender<Result<Vec<Bytes>>>) -> Result<()> {
    let mut unpacker = zstd::bulk::Decompressor::new()?;
    let mut packed = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_EVENTS);
    let mut head = [0; 8];
    while file.read_exact(&mut head).is_ok() {
        let mut lengths = &head[..];
        let (bytes, packed_bytes) = (lengths.get_u32(), lengths.get_u32());
        packed.resize(packed_bytes as usize, 0);
        file.read_exact(&mut packed)?;
        let mut frame = Bytes::from(unpacker.decompress(&packed, bytes as usize)?);
        while frame.has_remaining() {
            frame.advance(16);
            let length = frame.get_u32() as usize;
            batch.push(frame.split_to(length));
            if batch.len() == BATCH_EVENTS {
                let whole = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_EVENTS));
                if batches.blocking_send(Ok(whole)).is_err() {
                    return Ok(());
                }
            }
        }
    }
    if !batch.is_empty() {
        let _ = batches.blocking_send(Ok(batch));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_in_batches() {
        let dir = tempfile::tempdir().unwrap();
        let pool: Vec<Bytes> = (0..300).map(|n| Bytes::from(n.to_string())).collect();
        let packed = Packed::create(dir.path(), &pool, 20_001).unwrap();
        let mut batches = packed.batches().unwrap();
        let mut events = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            events.extend(batch.unwrap());
        }
        assert_eq!(events.len(), 20_001);
        assert!(events.iter().eq(pool.iter().cycle().take(20_001)));
    }
}
