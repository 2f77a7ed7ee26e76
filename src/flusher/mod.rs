//! Drains the log into the sink.
