//! Lines of input, read on a thread of their own so that a signal need not wait for a line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::fault::Fault;
use crate::patience::Patient;

const BLOCK_BYTES: usize = 64 << 10;
/// Blocks of lines that wait to be taken; the reader waits then.
const BLOCKS_AHEAD: usize = 2;

/// What some editors put before the first character of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinePlace {
    /// The name of the file, if there are several.
    pub(crate) file: Option<Arc<str>>,
    /// From 1.
    pub(crate) number: u64,
}

/// `line 3`, or `line 3 of b.jsonl`.
impl fmt::Display for LinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.number)?;
        match &self.file {
            Some(file) => write!(f, " of {file}"),
            None => Ok(()),
        }
    }
}

/// One line of input, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) place: LinePlace,
    /// None if it is longer than the limit; then it was not kept.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// The lines of files or of standard input. Memory does not grow with the input.
#[derive(Debug)]
pub(crate) struct Lines {
    blocks: mpsc::Receiver<io::Result<Vec<Line>>>,
    progress: Arc<Mutex<Progress>>,
    /// Bytes of all that will be read, if that is known.
    total_bytes: Option<u64>,
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
    /// Bytes that were read in all.
    read_bytes: u64,
}

/// Something to read.
#[derive(Debug)]
enum Source {
    Standard,
    File(PathBuf),
}

impl Source {
    fn of(name: &Path) -> Self {
        if name == Path::new("-") {
            Self::Standard
        } else {
            Self::File(name.to_owned())
        }
    }

    /// Refuses what cannot be read before anything is done. Its size, if it has one.
    fn check(&self) -> Result<Option<u64>, Fault> {
        let path = match self {
            Self::Standard => return Ok(size_of_stdin()),
            Self::File(path) => path,
        };
        let metadata = std::fs::metadata(path).map_err(|source| not_opened(path, &source))?;
        if metadata.is_dir() {
            let text = format!("{} is a directory", path.display());
            return Err(Fault::usage(text).hint("name the files in it, such as DIR/*.jsonl"));
        }
        if !metadata.is_file() {
            // Opening a pipe may wait for its writer.
            return Ok(None);
        }
        File::open(path).map_err(|source| not_opened(path, &source))?;
        Ok(Some(metadata.len()))
    }

    fn name(&self) -> Arc<str> {
        match self {
            Self::Standard => "standard input".into(),
            Self::File(path) => path.display().to_string().into(),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Standard => Box::new(Patient::new(io::stdin().lock())),
            Self::File(path) => Box::new(Patient::new(File::open(path)?)),
        })
    }
}

fn not_opened(path: &Path, source: &io::Error) -> Fault {
    let shown = path.to_string_lossy();
    if source.kind() == io::ErrorKind::NotFound && shown.starts_with(['{', '[', '"']) {
        // It may be an event, which is not repeated.
        let text = "an argument is JSON, and not the name of a file";
        return Fault::usage(text)
            .hint("to append it, pipe it in: `echo '{...}' | everpost append`");
    }
    let hint = match source.kind() {
        io::ErrorKind::NotFound => "see that the name is right; `-` is standard input",
        _ => "see that this user may read it, or pipe it in",
    };
    Fault::usage(format!("failed to open {shown}: {source}")).hint(hint)
}

/// What is still to be read of standard input, if it is a file.
#[cfg(unix)]
fn size_of_stdin() -> Option<u64> {
    use std::io::Seek as _;
    use std::os::fd::AsFd as _;
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let at = file.stream_position().ok()?;
    metadata.len().checked_sub(at)
}

#[cfg(not(unix))]
fn size_of_stdin() -> Option<u64> {
    None
}

/// Whether a person types what is read from these.
pub(crate) fn are_typed(files: &[PathBuf]) -> bool {
    let standard = files.is_empty() || files.iter().any(|file| file == Path::new("-"));
    standard && io::stdin().is_terminal()
}

impl Lines {
    /// Begins to read these files, or standard input if there are none. Lines longer than
    /// `max_bytes` are not kept.
    pub(crate) fn open(files: &[PathBuf], max_bytes: usize) -> Result<Self, Fault> {
        let mut sources: Vec<Source> = files.iter().map(|file| Source::of(file)).collect();
        if sources.is_empty() {
            sources.push(Source::Standard);
        }
        let mut total_bytes = Some(0_u64);
        for source in &sources {
            let size = source.check()?;
            total_bytes = total_bytes
                .zip(size)
                .map(|(sum, size)| sum.saturating_add(size));
        }
        let (mut lines, sender) = Self::new();
        lines.total_bytes = total_bytes;
        let progress = Arc::clone(&lines.progress);
        let several = sources.len() > 1;
        lines.spawn(move || {
            for source in sources {
                let file = several.then(|| source.name());
                lock(&progress).waiting = true;
                let opened = source.open();
                let ended = match opened {
                    Ok(opened) => read(opened, file.as_ref(), max_bytes, &progress, &sender),
                    Err(error) => Err(error),
                };
                match ended {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        let name = source.name();
                        let error = io::Error::new(error.kind(), format!("{name}: {error}"));
                        let _ = sender.blocking_send(Err(error));
                        return;
                    }
                }
            }
        })?;
        Ok(lines)
    }

    fn new() -> (Self, mpsc::Sender<io::Result<Vec<Line>>>) {
        let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD);
        let lines = Self {
            blocks,
            progress: Arc::new(Mutex::new(Progress::default())),
            total_bytes: None,
            abandoned: false,
        };
        (lines, sender)
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        let thread = std::thread::Builder::new().name("everpost-input".to_owned());
        let started = thread.spawn(work);
        started
            .map(drop)
            .map_err(|source| Fault::io("start a thread for the input", &source))
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

    /// Lines that were read already, if there are any.
    pub(crate) fn try_next(&mut self) -> Option<io::Result<Vec<Line>>> {
        self.blocks.try_recv().ok()
    }

    /// Reads no more. What has been read is still given.
    pub(crate) fn stop(&mut self) {
        let mut progress = lock(&self.progress);
        progress.stop = true;
        self.abandoned |= progress.waiting;
    }

    /// Bytes that were read, and of all that will be, if that is known.
    pub(crate) fn read_bytes(&self) -> (u64, Option<u64>) {
        (lock(&self.progress).read_bytes, self.total_bytes)
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

/// Reads to the end (true), or to the moment when nothing more is wanted (false).
fn read(
    source: impl Read,
    file: Option<&Arc<str>>,
    max_bytes: usize,
    progress: &Mutex<Progress>,
    sender: &mpsc::Sender<io::Result<Vec<Line>>>,
) -> io::Result<bool> {
    let mut source = BufReader::with_capacity(BLOCK_BYTES, source);
    let mut splitter = Splitter::new(file.cloned(), max_bytes);
    loop {
        {
            let mut progress = lock(progress);
            progress.partial = splitter.partial_bytes;
            if progress.stop {
                return Ok(false);
            }
            progress.waiting = true;
        }
        let filled = source.fill_buf();
        lock(progress).waiting = false;
        let (lines, read) = match filled {
            Ok([]) => (splitter.finish(), 0),
            Ok(block) => (splitter.split(block), block.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        source.consume(read);
        lock(progress).read_bytes += read as u64;
        let gone = !lines.is_empty() && sender.blocking_send(Ok(lines)).is_err();
        if gone || read == 0 {
            lock(progress).partial = 0;
            return Ok(!gone);
        }
    }
}

/// Cuts blocks into lines.
#[derive(Debug)]
struct Splitter {
    file: Option<Arc<str>>,
    max_bytes: usize,
    number: u64,
    partial: Vec<u8>,
    /// Bytes of the line so far, kept or not.
    partial_bytes: usize,
}

impl Splitter {
    fn new(file: Option<Arc<str>>, max_bytes: usize) -> Self {
        Self {
            file,
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
        if self.number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if kept && bytes.trim_ascii().is_empty() {
            return None;
        }
        let place = LinePlace {
            file: self.file.clone(),
            number: self.number,
        };
        Some(Line {
            place,
            bytes: kept.then_some(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(blocks: &[&str], max_bytes: usize) -> Vec<(u64, Option<String>)> {
        let mut splitter = Splitter::new(None, max_bytes);
        let mut lines: Vec<Line> = blocks
            .iter()
            .flat_map(|block| splitter.split(block.as_bytes()))
            .collect();
        lines.extend(splitter.finish());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        lines
            .into_iter()
            .map(|line| (line.place.number, line.bytes.map(text)))
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

    /// Editors of some systems put a mark before the first character, and line 1 was refused.
    #[test]
    fn a_byte_order_mark_is_passed_over_at_the_beginning_alone() {
        let expected = [(1, Some("1".into())), (2, Some("\u{FEFF}2".into()))];
        assert_eq!(split(&["\u{FEFF}1\r\n\u{FEFF}2"], 9), expected);
        assert_eq!(split(&["\u{FEFF}"], 9), []);
    }

    #[tokio::test]
    async fn files_are_read_one_after_the_other_and_lines_know_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        for path in &paths {
            std::fs::write(path, "\u{FEFF}1\n2").unwrap();
        }
        let mut lines = Lines::open(&paths, 100).unwrap();
        let mut found = Vec::new();
        while let Some(block) = lines.next().await {
            found.extend(
                block
                    .unwrap()
                    .into_iter()
                    .map(|line| line.place.to_string()),
            );
        }
        let [a, b] = paths.map(|path| path.display().to_string());
        let expected = [&a, &a, &b, &b].map(String::as_str);
        let expected = [1, 2, 1, 2].iter().zip(expected);
        let expected: Vec<String> = expected
            .map(|(number, file)| format!("line {number} of {file}"))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(lines.read_bytes(), (12, Some(12)));
    }

    #[tokio::test]
    async fn a_stop_gives_what_was_read_and_does_not_wait_for_more() {
        let (reader, mut writer) = io::pipe().unwrap();
        let (mut lines, sender) = Lines::new();
        let progress = Arc::clone(&lines.progress);
        let work = move || assert!(read(reader, None, 100, &progress, &sender).is_ok());
        lines.spawn(work).unwrap();
        io::Write::write_all(&mut writer, b"1\n2\n3").unwrap();
        let first = lines.next().await.unwrap().unwrap();
        assert_eq!(first.len(), 2);
        lines.stop();
        assert!(lines.next().await.is_none());
        drop(writer);
    }
}
