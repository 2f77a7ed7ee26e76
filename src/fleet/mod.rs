//! Workers that carry the events of many spools from a stream of NATS JetStream to a receiver.
//!
//! - `connect.rs` says where the servers are and who we are.

mod connect;
mod text;

pub use connect::Access;
