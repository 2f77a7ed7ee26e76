//! Log lines: one function for each fact, with its level.
//!
//! WARN: odd, but nothing is lost. ERROR: something was lost, set aside, or a person must act.
//! INFO: it is well again. DEBUG: each attempt. Never a key, never the content of an event.
