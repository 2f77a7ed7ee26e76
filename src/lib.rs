//! everpost

pub mod clock;
#[cfg(feature = "control")]
pub mod control;
mod dead;
mod error;
mod event;
#[cfg(feature = "cli")]
pub mod exit;
mod flusher;
pub mod inspect;
mod ledger;
mod log;
mod millis;
mod observe;
mod queue;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod settings;
pub mod sink;
mod status;

pub use dead::{Cause, DeadLetter, DeadLetters};
pub use error::Error;
pub use event::{Event, EventId, Receipt, Seq, StoredEvent};
pub use ledger::{Ledger, Settled};
pub use queue::{Queue, QueueBuilder, StatusWatch};
pub use settings::{Delivery, Durability, OnFull, Settings};
pub use sink::botanalytics;
pub use sink::{Answer, Batch, Outcome, PauseReason, Sink, Verdict};
pub use status::{Closed, FlusherState, Recovery, SeqRange, Status};
