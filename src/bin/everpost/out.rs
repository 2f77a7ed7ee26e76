//! Where text goes: standard output for what was asked for, standard error for the rest.
//!
//! These are the only doors. Whatever goes through one of them is made visible first, so that no
//! text from outside can command a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::fault::Fault;
use crate::logging::dressed;
use crate::scribe;
use crate::text::visible;

/// Standard output, in the form the user chose. Each call is flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
}

impl Out {
    /// One object as a line of JSON, or the text for people.
    pub(crate) fn show(
        self,
        object: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Fault> {
        if self.json {
            self.line(object)
        } else {
            self.text(&text())
        }
    }

    /// One object as a line of JSON, whatever the user chose.
    pub(crate) fn line(self, object: &impl Serialize) -> Result<(), Fault> {
        self.lines(std::slice::from_ref(object))
    }

    /// Objects, each as a line of JSON, whatever the user chose. A pipe gets every character as
    /// it is, a terminal the same JSON with the dangerous ones written as numbers.
    pub(crate) fn lines(self, objects: &[impl Serialize]) -> Result<(), Fault> {
        let mut lines = String::new();
        for object in objects {
            lines.push_str(&json(object)?);
            lines.push('\n');
        }
        if self.is_terminal() {
            self.text(&lines)
        } else {
            self.bytes(lines.as_bytes())
        }
    }

    /// Text for people.
    pub(crate) fn text(self, text: &str) -> Result<(), Fault> {
        self.bytes(visible(text).as_bytes())
    }

    /// Begins a new screen, if it is one.
    pub(crate) fn clear(self) -> Result<(), Fault> {
        if self.is_terminal() {
            self.bytes(b"\x1b[H\x1b[2J")
        } else {
            Ok(())
        }
    }

    /// What this program made by itself, byte for byte: scripts, pages, JSON for a pipe.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Fault> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|source| Fault::from_stdout(&source))
    }

    /// For a person at a terminal: a heading above the lines of a list, or that there are none.
    /// What goes to a pipe has one line for each thing and no other.
    pub(crate) fn heading(self, is_any: bool, heading: &str, none: &str) -> Result<(), Fault> {
        match (self.json || !self.is_terminal(), is_any) {
            (true, _) => Ok(()),
            (false, true) => self.text(&format!("{heading}\n")),
            (false, false) => self.text(&format!("{none}\n")),
        }
    }

    pub(crate) fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Resolves when the reader of standard output has gone, also while there is nothing to write:
    /// a pipe whose other end is closed, a terminal that was hung up. Never where there is no such
    /// end, as with a file. A command that waits between two lines waits for this too, and ends
    /// with 0 as at a write that finds the pipe broken.
    ///
    /// Call it once: it leaves a thread behind that waits for the same until the process ends.
    ///
    /// # Cancel safety
    /// It only looks.
    #[cfg(unix)]
    pub(crate) async fn gone(self) {
        let (told, heard) = tokio::sync::oneshot::channel();
        let wait = move || {
            if wait_for_hang_up().is_ok() {
                let _ = told.send(());
            }
        };
        let name = "everpost-stdout".to_owned();
        let begun = std::thread::Builder::new().name(name).spawn(wait);
        // Where the system does not tell of it, a write will.
        if begun.is_err() || heard.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    pub(crate) async fn gone(self) {
        std::future::pending().await
    }
}

/// Blocks until the other end of standard output is closed.
#[cfg(unix)]
fn wait_for_hang_up() -> rustix::io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = io::stdout();
    // That the other end is gone is told without being asked for, and nothing else.
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    loop {
        match poll(&mut watched, None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

fn json(object: &impl Serialize) -> Result<String, Fault> {
    let written = serde_json::to_string(object);
    written.map_err(|source| Fault::io("write JSON", &io::Error::other(source)))
}

/// A line for the person at the terminal, or, where a service logs JSON, one of its log. A
/// standard error that is gone changes nothing.
pub(crate) fn remark(text: &str) {
    let dressed = dressed(text);
    let text = dressed.as_deref().unwrap_or(text);
    scribe::say(&format!("{text}\n"));
}

/// A line of JSON on standard error, for a program that asked for JSON.
pub(crate) fn remark_json(object: &impl Serialize) {
    if let Ok(line) = json(object) {
        remark(&line);
    }
}
