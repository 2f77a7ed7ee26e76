//! Lines of input, read on a thread of their own so that a signal need not wait for a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::fault::Fault;

const BLOCK_BYTES: usize = 64 << 10;
/// Blocks of lines that wait to be taken; the reader waits then.
const BLOCKS_AHEAD: usize = 2;

/// One line of input, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u64,
    /// None if it is longer than the limit; then it was not kept.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// The lines of a file or of standard input. Memory does not grow with the input.
#[derive(Debug)]
pub(crate) struct Lines {
    blocks: mpsc::Receiver<io::Result<Vec<Line>>>,
    progress: Arc<Mutex<Progress>>,
    /// The reader waits for input that is not wanted any more.
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Progress {
    /// The reader waits for input; everything it has read before is among the blocks.
    waiting: bool,
    stop: bool,
    /// Bytes of a line whose end has not been read.
    partial: usize,
}

impl Lines {
    /// Begins to read. Lines longer than `max_bytes` are not kept.
    pub(crate) fn open(file: Option<&Path>, max_bytes: usize) -> Result<Self, Fault> {
        match file.filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let opened = File::open(path);
                let action = format!("open {}", path.display());
                let file = opened.map_err(|source| Fault::io(&action, &source))?;
                Self::of(move || file, max_bytes)
            }
            None => Self::of(|| io::stdin().lock(), max_bytes),
        }
    }

    fn of<R: Read>(
        source: impl FnOnce() -> R + Send + 'static,
        max_bytes: usize,
    ) -> Result<Self, Fault> {
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        let progress = Arc::new(Mutex::new(Progress::default()));
        let shared = Arc::clone(&progress);
        std::thread::Builder::new()
            .name("everpost-input".to_owned())
            .spawn(move || read(source(), max_bytes, &shared, &sender))
            .map_err(|source| Fault::io("start a thread for the input", &source))?;
        Ok(Self {
            blocks,
            progress,
            abandoned: false,
        })
    }

    /// The next lines; none at the end, or when all that was read before the stop was given.
    ///
    /// # Cancel safety
    /// No line is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<io::Result<Vec<Line>>> {
        if self.abandoned {
            return self.blocks.try_recv().ok();
        }
        self.blocks.recv().await
    }

    /// Reads no more. What has been read is still given.
    pub(crate) fn stop(&mut self) {
        let mut progress = lock(&self.progress);
        progress.stop = true;
        self.abandoned |= progress.waiting;
    }

    /// Bytes that were read behind the last whole line.
    pub(crate) fn partial(&self) -> usize {
        lock(&self.progress).partial
    }
}

/// A panic of the reader leaves nothing half done here.
fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(
    source: impl Read,
    max_bytes: usize,
    progress: &Mutex<Progress>,
    sender: &mpsc::Sender<io::Result<Vec<Line>>>,
) {
    let mut source = BufReader::with_capacity(BLOCK_BYTES, source);
    let mut splitter = Splitter::new(max_bytes);
    loop {
        {
            let mut progress = lock(progress);
            progress.partial = splitter.partial_bytes;
            if progress.stop {
                return;
            }
            progress.waiting = true;
        }
        let filled = source.fill_buf();
        lock(progress).waiting = false;
        let (lines, read) = match filled {
            Ok([]) => (splitter.finish(), 0),
            Ok(block) => (splitter.split(block), block.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        source.consume(read);
        let gone = !lines.is_empty() && sender.blocking_send(Ok(lines)).is_err();
        if gone || read == 0 {
            lock(progress).partial = 0;
            return;
        }
    }
}

/// Cuts blocks into lines.
#[derive(Debug)]
struct Splitter {
    max_bytes: usize,
    number: u64,
    partial: Vec<u8>,
    /// Bytes of the line so far, kept or not.
    partial_bytes: usize,
}

impl Splitter {
    fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            number: 0,
            partial: Vec::new(),
            partial_bytes: 0,
        }
    }

    fn split(&mut self, block: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for part in block.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            self.partial_bytes = self.partial_bytes.saturating_add(text.len());
            if self.partial_bytes <= self.max_bytes {
                self.partial.extend_from_slice(text);
            }
            if ended {
                lines.extend(self.end_line());
            }
        }
        lines
    }

    /// The last line, if its end is the end of the input.
    fn finish(&mut self) -> Vec<Line> {
        if self.partial_bytes == 0 {
            return Vec::new();
        }
        self.end_line().into_iter().collect()
    }

    /// The line that ended; none if it is blank.
    fn end_line(&mut self) -> Option<Line> {
        self.number += 1;
        let kept = self.partial_bytes <= self.max_bytes;
        self.partial_bytes = 0;
        let mut bytes = std::mem::take(&mut self.partial);
        if kept && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if kept && bytes.trim_ascii().is_empty() {
            return None;
        }
        Some(Line {
            number: self.number,
            bytes: kept.then_some(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(blocks: &[&str], max_bytes: usize) -> Vec<(u64, Option<String>)> {
        let mut splitter = Splitter::new(max_bytes);
        let mut lines: Vec<Line> = blocks
            .iter()
            .flat_map(|block| splitter.split(block.as_bytes()))
            .collect();
        lines.extend(splitter.finish());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        lines
            .into_iter()
            .map(|line| (line.number, line.bytes.map(text)))
            .collect()
    }

    #[test]
    fn lines_are_whole_wherever_the_blocks_end_and_blank_ones_are_only_counted() {
        let expected = [
            (1, Some("one".into())),
            (3, Some(" two".into())),
            (5, Some("three".into())),
        ];
        let text = "one\n\n two\r\n \t\nthree";
        assert_eq!(split(&[text], 9), expected);
        let bytes: Vec<&str> = text.split_inclusive(|_: char| true).collect();
        assert_eq!(split(&bytes, 9), expected);
        assert_eq!(split(&[], 9), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_not_kept() {
        let found = split(&["123456", "789\n12345\n123456"], 5);
        assert_eq!(found, [(1, None), (2, Some("12345".into())), (3, None)]);
    }

    #[tokio::test]
    async fn a_stop_gives_what_was_read_and_does_not_wait_for_more() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::of(move || reader, 100).unwrap();
        io::Write::write_all(&mut writer, b"1\n2\n3").unwrap();
        let first = lines.next().await.unwrap().unwrap();
        assert_eq!(first.len(), 2);
        lines.stop();
        assert!(lines.next().await.is_none());
        drop(writer);
    }
}
