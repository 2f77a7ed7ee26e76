//! How a command fails: what happened, what to do, and the exit code.

use std::fmt;
use std::io;

use everpost::{AppendError, Error, OpenError, exit};

use serde::Serialize;

use crate::out::{remark, remark_json};
use crate::text::plain;

/// An expected end of a command that is not success. A bug panics instead.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) code: u8,
    /// Completes "everpost: ". Empty if everything has been said.
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
        }
    }

    /// Only a code: everything has been said.
    pub(crate) fn silent(code: u8) -> Self {
        Self::new(code, "")
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(exit::USAGE, text)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells it on standard error, if there is anything to tell.
    pub(crate) fn tell(&self, json: bool) {
        match (self.text.as_str(), json) {
            ("", _) => {}
            (_, false) => remark(&self.to_string()),
            (error, true) => remark_json(&FaultLine {
                error,
                hint: self.hint.as_deref(),
                code: self.code,
            }),
        }
    }

    /// Reading or writing something that is not the spool failed.
    pub(crate) fn io(action: &str, source: &io::Error) -> Self {
        Self::new(exit::UNEXPECTED, format!("failed to {action}: {source}"))
    }

    /// The reader of standard output has gone: no one is left to tell.
    pub(crate) fn from_stdout(source: &io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(exit::DONE),
            _ => Self::io("write to standard output", source),
        }
    }
}

/// A fault for programs.
#[derive(Serialize)]
struct FaultLine<'a> {
    error: &'a str,
    hint: Option<&'a str>,
    code: u8,
}

/// One line, or two with the hint. Parts of both may come from an owner, a path or a file.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "everpost: {}", plain(&self.text))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", plain(hint)),
            None => Ok(()),
        }
    }
}

impl From<AppendError> for Fault {
    fn from(error: AppendError) -> Self {
        Error::from(error).into()
    }
}

impl From<OpenError> for Fault {
    fn from(error: OpenError) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut text = match &error {
            Error::NotASpool { path } if path.is_file() => {
                format!("{} is not a directory", path.display())
            }
            error => error.to_string(),
        };
        if let Some(source) = std::error::Error::source(&error) {
            text = format!("{text}: {source}");
        }
        Self::new(code(&error), text).hint(hint(&error))
    }
}

/// What to do about it, in the words of this command.
fn hint(error: &Error) -> &'static str {
    match error {
        Error::Sink { reason } if reason.contains("plain HTTP") => {
            "set BA_BASE_URL to an address that begins with https://; plain HTTP is for this machine \
             alone, such as http://127.0.0.1:8080/v2"
        }
        Error::Sink { reason } if reason.contains("base URL") => {
            "set BA_BASE_URL to the whole address, such as https://api.beta.botanalytics.co/v2 or \
             http://127.0.0.1:8080/v2, or leave it out"
        }
        Error::Fleet { .. } if is_plain(error) => {
            "set up TLS on the servers, and name their authority by --ca-file if it is a private one; or add \
             --allow-plain if clear text is meant"
        }
        _ => error.hint(),
    }
}

/// Whether a server speaks in clear, which it may not without a word from a person.
fn is_plain(error: &Error) -> bool {
    matches!(error, Error::Fleet { reason } if reason.contains("does not speak TLS"))
}

/// The exit code of an error of the library.
fn code(error: &Error) -> u8 {
    match error {
        Error::Fleet { .. } if is_plain(error) => exit::USAGE,
        Error::InUse { .. } | Error::NotOwner { .. } | Error::Changing { .. } => exit::IN_USE,
        Error::Damaged { .. } | Error::FutureFormat { .. } => exit::DAMAGED,
        Error::Full { .. } => exit::FULL,
        Error::Storage { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => exit::FULL,
            _ => exit::UNEXPECTED,
        },
        Error::InvalidEvent { .. } | Error::TooLarge { .. } => exit::REFUSED,
        Error::NotASpool { .. }
        | Error::NoSpool { .. }
        | Error::NotYours { .. }
        | Error::Unsafe { .. }
        | Error::Settings { .. }
        | Error::Key(_)
        | Error::Sink { .. }
        | Error::NoSink
        | Error::NoSuchLetter { .. } => exit::USAGE,
        _ => exit::UNEXPECTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_two_lines_with_its_hint() {
        let fault = Fault::from(Error::InUse {
            path: "/spool".into(),
            pid: Some(7),
        });
        assert_eq!(fault.code, exit::IN_USE);
        assert_eq!(
            fault.to_string(),
            "everpost: spool is in use by another process. path=`/spool`, pid=`7`\n\
             hint: stop the other process, or use a different directory"
        );
    }

    /// A wrong address was told with a hint about "what is named", and the variable was not.
    #[test]
    fn an_address_that_is_none_names_its_variable_and_what_to_type() {
        for base in ["localhost:9999", "http://192.168.1.5:8080/v2", "x"] {
            let key = everpost::botanalytics::KeySource::value("a.eyJjaGFubmVsIjoiYyJ9.c");
            let built = everpost::botanalytics::Botanalytics::builder(key).base_url(base);
            let fault = Fault::from(built.build().unwrap_err());
            let hint = fault.hint.unwrap();
            assert!(hint.starts_with("set BA_BASE_URL to "), "{base}: {hint}");
            assert_eq!(fault.code, exit::USAGE);
        }
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let storage = |kind: io::ErrorKind| {
            Fault::from(Error::Storage {
                action: "write",
                path: "p".into(),
                source: kind.into(),
            })
        };
        assert_eq!(storage(io::ErrorKind::StorageFull).code, exit::FULL);
        assert_eq!(storage(io::ErrorKind::Other).code, exit::UNEXPECTED);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = Fault::from_stdout(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((gone.code, gone.text.as_str()), (exit::DONE, ""));
    }
}
