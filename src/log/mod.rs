//! Where pending events live.
