//! What the log's thread blocks on and is started with. Its tests put primitives in their place
//! that try one interleaving after the other (`schedule_tests.rs`).

pub(super) use std::sync::mpsc;
pub(super) use std::thread;
