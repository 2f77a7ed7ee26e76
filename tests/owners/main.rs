//! Who owns a spool, and what is in it: an owner that is not certain acknowledges nothing, and no
//! file is touched that others may have planted. With real processes, and other users where the
//! tests run as root; says so and passes where something that is needed is not there.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod certain;
mod fork;
mod group;
mod making;
mod planted;
mod set_up;
mod users;
