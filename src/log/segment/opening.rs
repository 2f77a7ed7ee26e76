//! Opening a segment to read it, a little at a time if there is time for that.

use std::io;
use std::path::Path;

use uuid::Uuid;

use super::{Segment, is_foreign};
use crate::error::Error;
use crate::id::Seq;
use crate::log::piece::Scanning;

/// A segment whose file is being looked through.
#[derive(Debug)]
pub(crate) struct Opening {
    segment: Segment,
    queue: Uuid,
    /// None if there is no file.
    scanning: Option<Scanning>,
}

impl Opening {
    pub(crate) fn begin(dir: &Path, first: Seq, queue: Uuid) -> Result<Self, Error> {
        let scanning = match Scanning::begin(&dir.join("db")) {
            Ok(scanning) => Some(scanning),
            // Its creation was cut off, or it was deleted in part.
            Err(source) if source.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::storage("read a segment", dir)(source)),
        };
        Ok(Self {
            segment: Segment::empty(dir, first),
            queue,
            scanning,
        })
    }

    /// Does a small part of it. False once there is nothing left to do.
    pub(crate) fn step(&mut self) -> Result<bool, Error> {
        let more = self.scanning.as_mut().map_or(Ok(false), Scanning::step);
        more.map_err(Error::storage("read a segment", &self.segment.dir))
    }

    /// Does the rest at once.
    pub(crate) fn finish(self) -> Result<Segment, Error> {
        let mut segment = self.segment;
        let Some(scanning) = self.scanning else {
            return Ok(segment);
        };
        let scan = scanning.finish();
        let scan = scan.map_err(Error::storage("read a segment", &segment.dir))?;
        segment.foreign = is_foreign(&scan, segment.first, self.queue);
        if !segment.foreign {
            segment.list(&scan)?;
        }
        segment.scan = Some(scan);
        Ok(segment)
    }
}
