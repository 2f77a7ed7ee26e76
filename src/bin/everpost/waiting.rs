//! Waiting for a spool that another process has in use.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use everpost::Error;
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::fault::Fault;
use crate::out::remark;
use crate::text::{duration, plain};

/// The shortest and the longest time between two tries for a spool that is in use.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How long it is waited for without a word.
const QUIET: Duration = Duration::from_secs(1);

/// Waits for a spool, but not for ever.
#[derive(Debug)]
pub(crate) struct Patience {
    wait: Duration,
    by: Instant,
    pause: Duration,
    has_rested: bool,
    /// The process that it waits for.
    owner: Option<u32>,
    /// When it is told that this waits; none once that is done.
    tell_at: Option<Instant>,
    /// Ends it early.
    end: Arc<Notify>,
}

impl Patience {
    /// Begins to count now.
    pub(crate) fn new(wait: Duration, end: &Arc<Notify>) -> Self {
        let now = Instant::now();
        Self {
            wait,
            by: now + wait,
            pause: PAUSE_MIN,
            has_rested: false,
            owner: None,
            tell_at: io::stderr().is_terminal().then(|| now + QUIET),
            end: Arc::clone(end),
        }
    }

    /// Begins anew if the spool has another owner than before: it goes from hand to hand, and may
    /// come to this one.
    pub(crate) fn meet(&mut self, in_use: &Error) {
        if let Error::InUse { pid: Some(pid), .. } = in_use
            && self.owner.replace(*pid) != Some(*pid)
        {
            self.by = Instant::now() + self.wait;
        }
    }

    /// Whether there was anything to wait for.
    pub(crate) fn has_rested(&self) -> bool {
        self.has_rested
    }

    /// Rests for a moment, a longer one each time and by chance, so that many that wait do not all
    /// come at once.
    ///
    /// # Errors
    /// Why it waits, if that was all the time there is, or if it was ended.
    pub(crate) async fn rest(&mut self, why: Fault) -> Result<(), Fault> {
        let now = Instant::now();
        if now >= self.by {
            return Err(self.over(why));
        }
        if self.tell_at.is_some_and(|at| now >= at) {
            self.tell_at = None;
            let left = duration(Duration::from_secs((self.by - now).as_secs() + 1));
            let why = plain(&why.text);
            remark(&format!("everpost: waiting for at most {left} more: {why}"));
        }
        let pause = rand::thread_rng().gen_range(self.pause / 2..=self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.has_rested = true;
        tokio::select! {
            () = sleep_until((now + pause).min(self.by)) => Ok(()),
            () = self.end.notified() => Err(why),
        }
    }

    fn over(&self, mut why: Fault) -> Fault {
        if !self.wait.is_zero() {
            why.text = format!("{}; waited {}", why.text, duration(self.wait));
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use everpost::exit;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_ends_after_its_time_with_what_it_waited_for() {
        let end = Arc::new(Notify::new());
        let why = || Fault::new(exit::IN_USE, "in use");
        let mut none = Patience::new(Duration::ZERO, &end);
        assert_eq!(none.rest(why()).await.unwrap_err().text, "in use");

        let began = Instant::now();
        let mut some = Patience::new(Duration::from_secs(3), &end);
        let mut rests = 0;
        let over = loop {
            match some.rest(why()).await {
                Ok(()) => rests += 1,
                Err(over) => break over,
            }
        };
        assert_eq!(over.text, "in use; waited 3s");
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!((60..400).contains(&rests), "{rests}");

        end.notify_one();
        let mut ended = Patience::new(Duration::from_secs(3), &end);
        assert_eq!(ended.rest(why()).await.unwrap_err().text, "in use");
    }
}
