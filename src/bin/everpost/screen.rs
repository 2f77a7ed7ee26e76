//! Standard error as a person sees it: one bar at the bottom at most, and lines above it.

use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::scribe;

/// The bar that stands now.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Cells of the bar. It keeps its width, whatever stands behind it.
const WITH_TOTAL: &str = "{bar:24} {wide_msg}";
const WITHOUT: &str = "{spinner} {wide_msg}";

/// A panic of another thread leaves nothing half done here.
fn bar() -> MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints with the bar out of the way.
pub(crate) fn above(print: impl FnOnce()) {
    match &*bar() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// Where the log goes: above the bar, made visible, and in a service by a thread of its own. That a line cannot be written changes
/// nothing for what is logged.
#[derive(Debug)]
pub(crate) struct Log;

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        scribe::say(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A bar for something that takes a while. It vanishes when this is dropped.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// None if standard error is no terminal.
    pub(crate) fn new(has_total: bool) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let shown = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let template = if has_total { WITH_TOTAL } else { WITHOUT };
        if let Ok(style) = ProgressStyle::with_template(template) {
            shown.set_style(style);
        }
        *bar() = Some(shown.clone());
        Some(Self(shown))
    }

    /// How much is done, and in words. The words must be plain, and are cut where the line ends.
    pub(crate) fn set(&self, done: u64, total: Option<u64>, words: String) {
        self.0.update(|state| {
            if let Some(total) = total {
                state.set_len(total);
                state.set_pos(done.min(total));
            }
        });
        self.0.set_message(words);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        *bar() = None;
        self.0.finish_and_clear();
    }
}

/// `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}
