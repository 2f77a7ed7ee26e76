//! Where text goes: standard output for what was asked for, standard error for the rest.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use crate::fault::Fault;
use crate::text::is_obeyed;

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

    /// Objects, each as a line of JSON, whatever the user chose.
    pub(crate) fn lines(self, objects: &[impl Serialize]) -> Result<(), Fault> {
        let mut lines = Vec::new();
        for object in objects {
            serde_json::to_writer(&mut lines, object)
                .map_err(|source| Fault::io("write JSON", &io::Error::other(source)))?;
            lines.push(b'\n');
        }
        if self.is_terminal() {
            lines = for_a_terminal(lines);
        }
        self.bytes(&lines)
    }

    /// Text for people.
    pub(crate) fn text(self, text: &str) -> Result<(), Fault> {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Fault> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(|source| Fault::from_stdout(&source))
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

/// The same JSON without anything a terminal would obey. What it would obey can only stand inside
/// a string, where it can be written as a number too. A pipe gets every byte as it is.
fn for_a_terminal(lines: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&lines) else {
        return lines;
    };
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_obeyed(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped.into_bytes()
}

/// A line for the person at the terminal. That nobody reads it changes nothing.
pub(crate) fn remark(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--json` gave C1 controls and right-to-left marks to a terminal as they came.
    #[test]
    fn json_on_a_terminal_is_the_same_json_in_other_letters() {
        let json = "[\"a\u{202E}\u{9b}b\",\"\u{1D173}\u{E9}\"]\n";
        let shown = String::from_utf8(for_a_terminal(json.into())).unwrap();
        assert_eq!(shown, "[\"a\\u202e\\u009bb\",\"\\ud834\\udd73\u{E9}\"]\n");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&shown), parse(json));
    }
}
