//! A queue that is shown on the page.

use std::fmt;

use crate::queue::Queue;

/// A queue that is shown on the page, and what there is to say about it.
#[derive(Clone)]
pub struct Shown {
    name: String,
    queue: Queue,
    upstream: Option<String>,
    key_hint: Option<String>,
}

impl Shown {
    /// This queue, under the name of its channel.
    #[must_use]
    pub fn new(name: impl Into<String>, queue: Queue) -> Self {
        Self {
            name: name.into(),
            queue,
            upstream: None,
            key_hint: None,
        }
    }

    /// With the address that its events go to.
    #[must_use]
    pub fn upstream(mut self, url: impl Into<String>) -> Self {
        self.upstream = Some(url.into());
        self
    }

    /// What a person has to do so that there is a key, or another one: a sentence with what to type.
    #[must_use]
    pub fn key_hint(mut self, hint: impl Into<String>) -> Self {
        self.key_hint = Some(hint.into());
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Where its events go.
    pub(super) fn url(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    pub(super) fn how_to_set_a_key(&self) -> &str {
        self.key_hint.as_deref().unwrap_or(
            "Put a valid key into the file that BA_API_KEY_FILE names: it is read again by itself. \
             If the key is in BA_API_KEY, set that and restart the service.",
        )
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("name", &self.name)
            .field("spool", &self.queue.spool())
            .finish_non_exhaustive()
    }
}
