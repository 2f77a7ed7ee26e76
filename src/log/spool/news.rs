//! What the status is to be told: a fault of the disk, and that something has changed.

use crate::error::Error;
use crate::observe;

/// What the disk refused last, and whether work that can wait has changed the position.
#[derive(Debug)]
pub(super) struct News {
    fault: Option<String>,
    is_there: bool,
}

impl News {
    /// A log that was just opened is news.
    pub(super) fn new() -> Self {
        Self {
            fault: None,
            is_there: true,
        }
    }

    /// The position has changed, or may have.
    pub(super) fn raise(&mut self) {
        self.is_there = true;
    }

    pub(super) fn take(&mut self) -> bool {
        std::mem::take(&mut self.is_there)
    }

    /// What the disk refused last, if it has not worked again since.
    pub(super) fn fault(&self) -> Option<&String> {
        self.fault.as_ref()
    }

    /// Takes note of work at the disk: a fault lasts until something has worked again.
    pub(super) fn note<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        match &result {
            Ok(_) => self.is_there |= self.fault.take().is_some(),
            Err(error) => {
                self.is_there = true;
                let text = error.to_string();
                if self.fault.as_ref() != Some(&text) {
                    observe::storage_fault(error);
                }
                self.fault = Some(text);
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_news_and_so_is_its_end() {
        let mut news = News::new();
        assert!(news.take() && !news.take());
        news.note(Ok(())).unwrap();
        assert!(!news.take(), "all was well before");
        news.note::<()>(Err(Error::Closed)).unwrap_err();
        assert!(news.take() && news.fault().is_some());
        news.note(Ok(())).unwrap();
        assert!(news.take() && news.fault().is_none());
    }
}
