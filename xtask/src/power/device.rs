//! The recording disk: a FUSE file system of two files in memory.
//!
//! `disk` is the image a loop device is laid over; each write and each flush of it goes into one
//! log. `mark` takes any text and puts it into the same log. The session has one thread, so the
//! log is the order in which everything happened: what stands before a mark was on its way to
//! the medium when the workload said so, and what stands before a flush was on it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::recording::Entry;

const DISK: INodeNo = INodeNo(2);
const MARK: INodeNo = INodeNo(3);
const TTL: Duration = Duration::from_secs(60);

/// A disk that is being recorded. It ends when this is dropped.
pub(crate) struct Device {
    log: Arc<Mutex<Log>>,
    // Dropped first by `finish`, so that nothing is written any more.
    session: BackgroundSession,
}

struct Log {
    image: Vec<u8>,
    entries: Vec<Entry>,
}

impl Device {
    /// Serves `image` as the file `disk` in the directory.
    pub(crate) fn mount(image: Vec<u8>, at: &Path) -> io::Result<Self> {
        let log = Arc::new(Mutex::new(Log {
            image,
            entries: Vec::new(),
        }));
        let files = Files(Arc::clone(&log));
        let session = fuser::spawn_mount(files, at, &Config::default())?;
        Ok(Self { log, session })
    }

    /// How much was recorded so far.
    pub(crate) fn len(&self) -> usize {
        lock(&self.log).entries.len()
    }

    /// Ends the recording and gives it.
    pub(crate) fn finish(self) -> io::Result<Vec<Entry>> {
        self.session.umount_and_join()?;
        Ok(std::mem::take(&mut lock(&self.log).entries))
    }
}

/// A panic elsewhere does not make the log unusable: it is only ever appended to.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Files(Arc<Mutex<Log>>);

impl Files {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let (kind, size) = match ino {
            DISK => (FileType::RegularFile, lock(&self.0).image.len() as u64),
            MARK => (FileType::RegularFile, 0),
            _ => (FileType::Directory, 0),
        };
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let ino = match name.to_str() {
            Some("disk") => DISK,
            Some("mark") => MARK,
            _ => return reply.error(Errno::ENOENT),
        };
        reply.entry(&TTL, &self.attr(ino), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: what is written is in the log when the call returns.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino != DISK {
            return reply.data(&[]);
        }
        let log = lock(&self.0);
        let len = log.image.len();
        let begin = usize::try_from(offset).unwrap_or(len).min(len);
        let end = begin.saturating_add(size as usize).min(len);
        reply.data(log.image.get(begin..end).unwrap_or_default());
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut log = lock(&self.0);
        let entry = if ino == MARK {
            Entry::Mark(String::from_utf8_lossy(data).trim_end().to_owned())
        } else {
            let begin = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = begin.saturating_add(data.len());
            match log.image.get_mut(begin..end) {
                Some(place) => place.copy_from_slice(data),
                None => return reply.error(Errno::ENOSPC),
            }
            Entry::Write(begin, data.into())
        };
        log.entries.push(entry);
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // This is what `close` sends, and no flush of the device.
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if ino == DISK {
            lock(&self.0).entries.push(Entry::Flush);
        }
        reply.ok();
    }
}
