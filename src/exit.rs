//! How the command `everpost` ends: one number for each thing that a script may want to tell
//! apart.
//!
//! If several apply, the one for the worst comes out: what could not be done at all goes before
//! what was done in part.

/// Everything asked for was done.
pub const DONE: u8 = 0;

/// Something unforeseen, or that has no number of its own. The message says what.
pub const UNEXPECTED: u8 = 1;

/// The command line, the settings, the environment or the key cannot be used, or a change needs
/// `--yes`. Nothing was done.
pub const USAGE: u8 = 2;

/// Another process owns the spool and does not answer on its control socket. Nothing was done.
pub const IN_USE: u8 = 3;

/// Something in the spool is damaged, or the directory is not a spool this version can read.
/// Nothing was deleted.
pub const DAMAGED: u8 = 4;

/// Delivery is paused and waits for a person. Everything is kept.
pub const PAUSED: u8 = 5;

/// The deadline came before everything was delivered. What remains is kept and delivered later.
pub const PENDING: u8 = 6;

/// Some lines of the input were refused; all others were taken.
pub const REFUSED: u8 = 7;

/// The spool has reached its bound or the disk is full: what the message names was not taken.
pub const FULL: u8 = 8;

/// `status --check` found that a limit is exceeded, and nothing that has a number of its own.
pub const LIMIT: u8 = 9;
