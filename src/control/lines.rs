//! JSON lines as they come in.

use std::marker::PhantomData;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::error::ClientError;

/// The longest line that is read: the largest event the settings allow, and some more.
pub(super) const LINE_BYTES_MAX: usize = 300 << 20;

/// The lines of a streamed answer. Dropping it ends the request.
#[derive(Debug)]
#[must_use = "dropping it ends the request"]
pub struct Lines<T> {
    body: BodyDataStream,
    /// What has come and was not given yet.
    buffer: Vec<u8>,
    /// How far the buffer is known to hold no line feed.
    searched: usize,
    // Drives the connection, and is ended with this.
    _connection: JoinSet<()>,
    line: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(body: Body, connection: JoinSet<()>) -> Self {
        Self {
            body: body.into_data_stream(),
            buffer: Vec::new(),
            searched: 0,
            _connection: connection,
            line: PhantomData,
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Broken`] if the connection ended before the answer,
    /// [`ClientError::Protocol`] if the line is not as documented.
    ///
    /// # Cancel safety
    /// No line is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let unseen = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                return read(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(ClientError::protocol("a line of the answer does not end"));
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(source)) => return Err(ClientError::broken(source)),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ClientError::protocol("the last line does not end")),
            }
        }
    }
}

/// Reads one JSON value of an answer.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(json).map_err(|error| {
        let fault = crate::event::json_fault(&error);
        ClientError::protocol(format!("the answer is not as documented: {fault}"))
    })
}
