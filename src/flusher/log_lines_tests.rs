//! What the flusher writes into the log, with which level, and what it never writes.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::script::*;
use super::step::Input;
use crate::event::Event;
use crate::id::SeqRange;
use crate::log::Log;
use crate::outcome::{Answer, Outcome, Verdict};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines written meanwhile.
fn lines(work: impl FnOnce(&mut Rig)) -> Vec<String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut rig = Rig::new(0, steady(), None);
        for _ in 0..4 {
            let event = Event::json(r#"{"text":"hunter2"}"#).unwrap();
            rig.log.stage(&[event]).unwrap();
        }
        rig.log.commit(true).unwrap();
        rig.start();
        work(&mut rig);
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("hunter2"), "content in the log: {text}");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// The levels above DEBUG, in order.
fn levels(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|level| *level != "DEBUG")
        .collect()
}

#[test]
fn backing_off_is_a_warning_once_and_its_end_is_told() {
    let lines = lines(|rig| {
        for _ in 0..5 {
            rig.answer(RETRY);
            rig.elapse();
        }
        rig.answer(DELIVERED);
    });
    assert_eq!(levels(&lines), ["WARN", "INFO"], "{lines:#?}");
    let attempts = lines.iter().filter(|l| l.contains("sending a batch"));
    assert_eq!(attempts.count(), 6);
}

#[test]
fn what_a_person_must_know_is_an_error() {
    let buried = lines(|rig| {
        rig.answer(Verdict::Poison);
        rig.answer(Verdict::Poison);
        rig.answer(Verdict::Poison);
    });
    assert_eq!(levels(&buried), ["ERROR"], "{buried:#?}");
    let line = buried.iter().find(|l| l.starts_with("ERROR")).unwrap();
    assert!(
        line.contains("seq=1") && line.contains("status=400"),
        "{line}"
    );

    let paused = lines(|rig| {
        rig.answer(DENIED);
        rig.elapse();
        rig.answer(DENIED);
        rig.step(Input::Resume);
    });
    assert_eq!(levels(&paused), ["ERROR", "INFO"], "{paused:#?}");

    let lost = lines(|rig| {
        *rig.log.faults.missing.lock().unwrap() = Some(SeqRange { first: 5, last: 7 });
        rig.log.stage(&events(3)).unwrap();
        rig.log.commit(true).unwrap();
        rig.answer(DELIVERED);
    });
    let line = lost.iter().find(|l| l.starts_with("ERROR")).unwrap();
    assert!(
        line.contains("first=5") && line.contains("last=7"),
        "{line}"
    );
}

#[test]
fn a_delivery_is_told_with_its_request_and_warnings() {
    let mut answer = Answer::from_status(200);
    answer.request_id = Some("r-1".into());
    let plain = lines(|rig| {
        rig.step(Input::Answered(Outcome::new(DELIVERED, answer.clone())));
    });
    assert_eq!(levels(&plain), Vec::<&str>::new());
    assert!(plain.iter().any(|line| line.contains("r-1")), "{plain:#?}");
    answer.warnings = vec!["old schema".into()];
    let warned = lines(|rig| {
        rig.step(Input::Answered(Outcome::new(DELIVERED, answer.clone())));
    });
    assert_eq!(levels(&warned), ["WARN"]);
    assert!(
        warned.iter().any(|line| line.contains("old schema")),
        "{warned:#?}"
    );
}
