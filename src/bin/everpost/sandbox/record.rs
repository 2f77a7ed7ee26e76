//! The file that accepted events are appended to, one a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use everpost::sandbox::Accepted;

use crate::fault::Fault;

/// The file, and how much of it is whole lines.
pub(crate) struct Record(Mutex<File>);

impl Record {
    /// Opens the file to append to it; makes it, for its owner alone, if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        let shown = path.display();
        let failed = |what: String| {
            Fault::usage(format!("failed to open the record {shown}: {what}"))
                .hint("name a file that can be written, in a directory that is there")
        };
        // Opening a FIFO would wait for its reader.
        if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(failed("it is no regular file".to_owned()));
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(path)
            .map_err(|source| failed(source.to_string()))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Appends these events, all or none.
    pub(crate) fn append(&self, events: &[Accepted]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            // Within JSON, a line can end between two tokens only, where a blank does as well.
            let json = event.json().unwrap_or_default().iter();
            lines.extend(json.map(|byte| match byte {
                b'\n' | b'\r' => b' ',
                other => *other,
            }));
            lines.push(b'\n');
        }
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = file.metadata()?.len();
        file.write_all(&lines).inspect_err(|_| {
            // A full disk may have taken a part of them. If it stays, it is told all the same.
            let _ = file.set_len(whole);
        })
    }
}
