//! Reading the events that opening left in the files.

use std::io;

use uuid::Uuid;

use super::Journal;
use crate::error::Error;
use crate::log::frame::{Frame, Window};
use crate::status::SeqRange;

impl Journal {
    /// Reads the runs of events that somebody wants: opening left all of them in the files, since
    /// most are sealed or settled and all of them together are large.
    pub(crate) fn read_runs(
        &self,
        frames: &mut [Frame],
        queue: Uuid,
        is_wanted: impl Fn(SeqRange) -> bool,
    ) -> Result<(), Error> {
        for file in &self.files {
            let mut window = Window::new(file.handle.file(), file.len).whole();
            let here = frames.iter_mut().filter(|frame| frame.file == file.number);
            for frame in here.filter(|frame| frame.is_cut()) {
                if frame.range().is_some_and(|range| !is_wanted(range)) {
                    continue;
                }
                let changed = || io::Error::other("it changed while it was read");
                let read = frame.read_whole(&mut window, queue);
                read.and_then(|read| read.ok_or_else(changed))
                    .map_err(Error::storage("read a journal file", &file.path))?;
            }
        }
        Ok(())
    }
}
