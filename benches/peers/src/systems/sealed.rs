//! A limit that keeps what it is given, as little as that can be.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use everpost::Event;

use crate::contest::{Opened, Store, Survives, System};

/// As each of the three journal files of everpost.
const FILE_BYTES: u64 = 4 << 20;

/// Bytes of events that are compressed together.
const CHUNK_BYTES: usize = 256 << 10;

/// Chunks that may wait to be sealed: what two of three files hold.
const CHUNKS_MAX: usize = 32;

/// Checks each event, gives it an id and a checksum, and overwrites a ring of three files, which
/// is synced when the next one is begun. A thread beside compresses what was written, and writes
/// and syncs that. It does not divide the work with other threads, knows no cursor, and never fails.
struct Sealed {
    ring: File,
    at: u64,
    buffer: Vec<u8>,
    held: Vec<Event>,
    held_bytes: usize,
    sealer: SyncSender<Vec<Event>>,
}

impl Sealed {
    fn create(dir: &Path) -> Result<Self> {
        let mut ring = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(dir.join("ring"))?;
        let zeros = vec![0; 64 << 10];
        for _ in 0..3 * FILE_BYTES / zeros.len() as u64 {
            ring.write_all(&zeros)?;
        }
        ring.sync_all()?;
        let chunks = File::create(dir.join("chunks"))?;
        let (sealer, full) = sync_channel(CHUNKS_MAX);
        std::thread::spawn(move || {
            if let Err(error) = seal(chunks, &full) {
                eprintln!("{error:#}");
            }
        });
        Ok(Self {
            ring,
            at: 0,
            buffer: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            sealer,
        })
    }
}

fn seal(mut chunks: File, full: &Receiver<Vec<Event>>) -> Result<()> {
    let mut packer = zstd::bulk::Compressor::new(1)?;
    let mut run = Vec::new();
    for events in full {
        run.clear();
        for event in &events {
            run.extend_from_slice(event.id().as_uuid().as_bytes());
            run.extend_from_slice(event.json_bytes());
        }
        chunks.write_all(&packer.compress(&run)?)?;
        chunks.sync_data()?;
    }
    Ok(())
}

impl Store for Sealed {
    fn append(&mut self, events: &[Bytes]) -> Result<()> {
        self.buffer.clear();
        for json in events {
            let event = Event::json(json.clone())?;
            let begin = self.buffer.len();
            self.buffer.extend_from_slice(&[0; 4]);
            self.buffer
                .extend_from_slice(event.id().as_uuid().as_bytes());
            self.buffer.extend_from_slice(json);
            let sum = crc32c::crc32c(&self.buffer[begin + 4..]).to_le_bytes();
            self.buffer[begin..begin + 4].copy_from_slice(&sum);
            self.held_bytes += json.len();
            self.held.push(event);
        }
        let length = self.buffer.len() as u64;
        // One byte is left over, so that a file is never filled to its very end.
        if self.at % FILE_BYTES + length >= FILE_BYTES {
            self.ring.sync_data()?;
            self.at = (self.at / FILE_BYTES + 1) % 3 * FILE_BYTES;
        }
        self.ring.write_all_at(&self.buffer, self.at)?;
        self.at += length;
        if self.held_bytes >= CHUNK_BYTES {
            self.held_bytes = 0;
            self.sealer
                .send(std::mem::take(&mut self.held))
                .map_err(|_| anyhow!("nothing is sealed any more"))?;
        }
        Ok(())
    }
}

/// What is left of plain writes when events are checked, kept, and take as little disk as they
/// do with everpost.
pub(crate) fn sealed() -> System {
    System {
        name: "limit: checked, written and sealed",
        survives: Survives::Process,
        remark: "a bare loop that checks each event, overwrites a ring of files and syncs each before the next; a thread beside compresses, writes and syncs it again; cannot deliver",
        is_limit: true,
        open: |dir| Ok(Opened::Loop(Box::new(Sealed::create(dir)?))),
    }
}
