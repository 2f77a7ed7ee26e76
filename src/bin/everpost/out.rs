//! Where text goes: standard output for what was asked for, standard error for the rest.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use crate::fault::Fault;

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
}

/// A line for the person at the terminal. That nobody reads it changes nothing.
pub(crate) fn remark(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}
