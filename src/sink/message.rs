//! The documented Universal message.
