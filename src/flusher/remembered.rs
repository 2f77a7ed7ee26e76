//! What a restart will find, and the answers that are owed for it.

use std::time::Duration;

use super::step::{Due, Now};
use crate::error::Error;
use crate::log::{Memo, PausedMemo};

/// The memo as the log has it, and who waits for it to say something.
#[derive(Debug)]
pub(super) struct Remembered {
    /// What the log holds; none until it was asked.
    held: Option<Memo>,
    /// What is being written.
    writing: Option<Memo>,
    /// The disk failed to take a memo: what it holds may be that or the one before.
    is_unsure: bool,
    /// When that is tried again.
    again: Option<Due>,
    /// How long it waits for that.
    wait: Duration,
    /// An answer is owed to a pause or a resume: whether the memo says it.
    is_asked: bool,
    answer: Option<Result<(), Error>>,
    /// A resume that came before the memo was read holds against what the memo says.
    resumed_early: bool,
}

impl Remembered {
    /// `wait` is the time between two tries to write it.
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            held: None,
            writing: None,
            is_unsure: false,
            again: None,
            wait,
            is_asked: false,
            answer: None,
            resumed_early: false,
        }
    }

    /// Whether it was read.
    pub(super) fn is_known(&self) -> bool {
        self.held.is_some()
    }

    /// It was read.
    pub(super) fn read(&mut self, memo: Memo) {
        self.held = Some(memo);
    }

    /// It could not be read, which is the answer if one is owed.
    pub(super) fn not_read(&mut self, error: &Error) {
        if std::mem::take(&mut self.is_asked) {
            self.answer = Some(Err(error.again()));
        }
    }

    /// What is to be written now, if that differs from what the log holds and its time has come.
    pub(super) fn write(&mut self, memo: Memo, now: &Now) -> Option<Memo> {
        if self.again.is_some_and(|due| due.at > now.mono) {
            return None;
        }
        self.again = None;
        if !self.is_unsure && self.held.as_ref() == Some(&memo) {
            return None;
        }
        self.writing = Some(memo.clone());
        Some(memo)
    }

    /// When a memo that the disk did not take is tried again.
    pub(super) fn again_at(&self) -> Option<Duration> {
        self.again.map(|due| due.at)
    }

    /// It was written.
    pub(super) fn written(&mut self) {
        if let Some(memo) = self.writing.take() {
            self.held = Some(memo);
            self.is_unsure = false;
        }
    }

    /// The disk did not take it. If it said what is wanted of a pause now, that is the answer.
    pub(super) fn not_written(&mut self, error: Error, wanted: Option<&PausedMemo>, now: &Now) {
        let written = self.writing.take();
        self.is_unsure = true;
        self.again = Some(now.after(self.wait));
        if !self.is_asked {
            return;
        }
        if written.is_some_and(|memo| memo.paused.as_ref() == wanted) {
            self.is_asked = false;
            self.answer = Some(Err(error));
        } else {
            // It was about something older; what was asked for since has its own try.
            self.again = None;
        }
    }

    /// A person asked for a pause or its end. From here on an answer is owed: whether that is kept
    /// on disk. A disk that refused before is asked anew, since the answer is about now.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
        self.again = None;
    }

    /// Whether an answer is owed.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Answers if what a restart would find is what is wanted.
    pub(super) fn answer_if_kept(&mut self, wanted: Option<&PausedMemo>) {
        if !self.is_asked || self.writing.is_some() || self.is_unsure {
            return;
        }
        if let Some(memo) = &self.held
            && memo.paused.as_ref() == wanted
        {
            self.is_asked = false;
            self.answer = Some(Ok(()));
        }
    }

    /// What became of the last pause or resume, once it is known.
    pub(super) fn take_answer(&mut self) -> Option<Result<(), Error>> {
        self.answer.take()
    }

    /// A pause was asked for.
    pub(super) fn paused(&mut self) {
        self.resumed_early = false;
    }

    /// The end of a pause was asked for.
    pub(super) fn resumed(&mut self) {
        self.resumed_early = self.held.is_none();
    }

    /// Whether the end of a pause was asked for before the memo was read.
    pub(super) fn was_resumed_early(&self) -> bool {
        self.resumed_early
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flusher::script::{at, secs};
    use crate::outcome::{Answer, PauseReason};

    fn paused() -> Memo {
        Memo {
            paused: Some(PausedMemo {
                reason: PauseReason::Requested,
                answer: Answer::default(),
                since_ms: 1,
            }),
            ..Memo::default()
        }
    }

    fn read() -> Remembered {
        let mut remembered = Remembered::new(secs(60));
        remembered.read(Memo::default());
        remembered
    }

    #[test]
    fn it_is_written_only_if_it_differs_and_answered_when_it_is_kept() {
        let mut remembered = read();
        assert_eq!(remembered.write(Memo::default(), &at(0)), None);
        remembered.ask();
        let wanted = paused();
        remembered.answer_if_kept(wanted.paused.as_ref());
        assert!(remembered.take_answer().is_none(), "not yet");
        assert_eq!(remembered.write(paused(), &at(0)), Some(paused()));
        remembered.answer_if_kept(None);
        assert!(remembered.take_answer().is_none(), "it is being written");
        remembered.written();
        remembered.answer_if_kept(wanted.paused.as_ref());
        assert!(matches!(remembered.take_answer(), Some(Ok(()))));
        assert!(!remembered.is_asked());
        assert_eq!(remembered.write(paused(), &at(0)), None);
    }

    #[test]
    fn a_memo_that_failed_is_tried_again_later_even_if_it_is_the_one_before() {
        let mut remembered = read();
        remembered.write(paused(), &at(0)).unwrap();
        remembered.not_written(Error::Closed, None, &at(0));
        assert_eq!(remembered.again_at(), Some(secs(60)));
        assert_eq!(remembered.write(Memo::default(), &at(59)), None);
        let again = remembered.write(Memo::default(), &at(60));
        assert_eq!(again, Some(Memo::default()));
        remembered.written();
        assert_eq!(remembered.write(Memo::default(), &at(60)), None);
    }

    #[test]
    fn a_refusal_is_the_answer_only_for_what_was_asked_last() {
        let mut remembered = read();
        remembered.write(paused(), &at(0)).unwrap();
        remembered.ask();
        // Meanwhile the end of the pause was asked for.
        remembered.not_written(Error::Closed, None, &at(0));
        assert!(remembered.take_answer().is_none());
        assert_eq!(remembered.again_at(), None, "its own try, now");
        remembered.write(Memo::default(), &at(0)).unwrap();
        remembered.not_written(Error::Closed, None, &at(0));
        assert!(matches!(remembered.take_answer(), Some(Err(_))));
    }
}
