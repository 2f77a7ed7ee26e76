use std::error::Error as _;

use super::*;

fn storage(source: io::Error) -> Error {
    Error::storage("write", "spool/journal")(source)
}

/// One of each kind. A new one does not compile in `Error::again` before it is there, and
/// belongs here then.
fn one_of_each() -> Vec<Error> {
    let (path, text) = (PathBuf::from("spool"), || "text".to_owned());
    let pid = Some(7);
    let reason = text();
    vec![
        Error::InvalidEvent { reason: text() },
        Error::TooLarge {
            bytes: 3,
            max: 2,
            setting: "max_event_bytes",
        },
        Error::Full {
            what: "the disk",
            used: 2,
            max: 1,
        },
        Error::Closed,
        Error::NoSink,
        Error::InUse {
            path: path.clone(),
            pid,
        },
        Error::NotOwner {
            path: path.clone(),
            reason: text(),
        },
        Error::NotYours {
            path: path.clone(),
            uid: 7,
        },
        Error::Unsafe {
            path: path.clone(),
            reason: text(),
        },
        Error::NotASpool { path: path.clone() },
        Error::NoSpool { path: path.clone() },
        Error::Changing { path: path.clone() },
        Error::FutureFormat {
            path: path.clone(),
            found: 9,
            supported: 1,
        },
        Error::Damaged {
            what: text(),
            path: path.clone(),
        },
        Error::Settings {
            problems: vec![text(), text()],
        },
        Error::Key(KeyError::Parts { found: 2 }),
        Error::Sink { reason: text() },
        Error::Fleet { reason: text() },
        Error::Control { reason, path },
        Error::NoSuchLetter { seq: 5 },
        storage(io::Error::from_raw_os_error(28)),
        storage(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
        storage(io::ErrorKind::StorageFull.into()),
        Error::NoThread {
            action: "start a thread",
            source: io::Error::from_raw_os_error(11),
        },
        Error::Internal { what: text() },
        Error::Panicked {
            part: "the log",
            message: text(),
        },
    ]
}

/// All callers of a commit that failed were told that it "ended by a panic", unless the disk
/// had refused or was full: a damaged spool looked like a bug to them.
#[test]
fn an_error_that_is_told_again_is_the_same_whatever_its_kind() {
    for error in one_of_each() {
        let again = error.again();
        let kind = |error: &Error| std::mem::discriminant(error);
        assert_eq!(kind(&again), kind(&error), "{again:?}");
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(again.hint(), error.hint());
        let source = |error: &Error| error.source().map(ToString::to_string);
        assert_eq!(source(&again), source(&error));
        assert_eq!(again.is_out_of_room(), error.is_out_of_room());
        let (Error::Storage { source: one, .. }, Error::Storage { source: other, .. }) =
            (&error, &again)
        else {
            assert_eq!(format!("{again:?}"), format!("{error:?}"));
            continue;
        };
        assert_eq!(other.kind(), one.kind());
        assert_eq!(other.raw_os_error(), one.raw_os_error());
    }
}

/// Whether this is an error of the call, and if it is, that it says the same there and back.
fn is_same_in<P: std::error::Error + Into<Error>>(of: impl Fn(Error) -> P, error: &Error) -> bool {
    let part = of(error.again());
    let source = |error: &dyn std::error::Error| error.source().map(ToString::to_string);
    let (text, from) = (part.to_string(), source(&part));
    let whole: Error = part.into();
    if std::mem::discriminant(&whole) != std::mem::discriminant(error) {
        assert!(matches!(whole, Error::Internal { .. }), "{whole:?}");
        return false;
    }
    assert_eq!((&text, from), (&error.to_string(), source(error)));
    assert_eq!(text, whole.to_string());
    assert_eq!((whole.kind(), whole.hint()), (error.kind(), error.hint()));
    true
}

#[test]
fn an_error_of_a_call_says_the_same_as_the_error_that_it_becomes() {
    let count =
        |is_same: &dyn Fn(&Error) -> bool| one_of_each().iter().filter(|e| is_same(e)).count();
    // Three of the examples are `Storage`.
    assert_eq!(count(&|error| is_same_in(AppendError::of, error)), 11);
    assert_eq!(count(&|error| is_same_in(OpenError::of, error)), 15);
    for error in one_of_each() {
        let (append, open) = (AppendError::of(error.again()), OpenError::of(error));
        let said = [(append.kind(), append.hint()), (open.kind(), open.hint())];
        let wholes = [Error::from(append), Error::from(open)];
        assert_eq!(said, wholes.map(|whole| (whole.kind(), whole.hint())));
    }
}

#[test]
fn a_kind_says_what_a_caller_does() {
    let kind = |error: Error| AppendError::of(error).kind();
    let full = |what| Error::Full {
        what,
        used: 2,
        max: 1,
    };
    assert_eq!(kind(full("the disk")), ErrorKind::Wait);
    assert_eq!(kind(full(NO_ROOM_FOR_NEW)), ErrorKind::AskPerson);
    assert_eq!(kind(Error::Closed), ErrorKind::OpenAgain);
    // An append has no letter to look for: that it gives such an error is a fault inside.
    assert_eq!(kind(Error::NoSuchLetter { seq: 1 }), ErrorKind::Bug);
}
