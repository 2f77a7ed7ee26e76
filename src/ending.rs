//! How a task or a thread ended.

use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// A task that will end, or has ended.
#[derive(Debug)]
pub(crate) struct TaskEnd(Mutex<State>);

#[derive(Debug)]
enum State {
    Runs(JoinHandle<()>),
    Ended { panic: Option<String> },
}

impl TaskEnd {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self(Mutex::new(State::Runs(task)))
    }

    /// Waits until the task has ended, or its runtime with it, and gives the text of the panic if
    /// it ended by one.
    ///
    /// # Cancel safety
    /// Only waits; call it again.
    pub(crate) async fn wait(&self) -> Option<String> {
        let mut state = self.0.lock().await;
        if let State::Runs(task) = &mut *state {
            let panic = match task.await {
                Err(error) if error.is_panic() => Some(panic_text(error.into_panic().as_ref())),
                Ok(()) | Err(_) => None,
            };
            *state = State::Ended { panic };
        }
        match &*state {
            State::Ended { panic } => panic.clone(),
            State::Runs(_) => None,
        }
    }

    /// Whether there is nothing to wait for any more.
    #[cfg(all(feature = "control", unix))]
    pub(crate) fn is_over(&self) -> bool {
        self.0.try_lock().is_ok_and(|state| match &*state {
            State::Runs(task) => task.is_finished(),
            State::Ended { .. } => true,
        })
    }
}

/// What was said by a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}
