//! What the flusher asked to remember, in the sheet `memo`: a version, 1, and an envelope.
//!
//! Format 1 kept it beside the dead letters; it is read there until it is written here.

use std::path::Path;

use super::codec::{self, Memo};
use super::sheet::{self, Sheet};
use crate::error::Error;
use crate::incident::{Finding, IncidentKind};

const NAME: &str = "memo";
const VERSION: u8 = 1;

/// Reads the memo; `old` is what stands beside the dead letters. One that is damaged is an empty
/// one, and a finding.
pub(crate) fn read(spool: &Path, old: Option<&[u8]>) -> Result<(Memo, Option<Finding>), Error> {
    let content = match sheet::read(spool, NAME)? {
        Sheet::Content(content) => content,
        Sheet::Missing => match old {
            Some(old) => old.to_vec(),
            None => return Ok((Memo::default(), None)),
        },
        Sheet::Damaged => {
            let what = "it does not check; a pause or a wait it may have held is forgotten";
            let finding = Finding::new(IncidentKind::Damaged, NAME, what);
            return Ok((Memo::default(), Some(finding)));
        }
    };
    parse(spool, &content).map(|memo| (memo, None))
}

fn parse(spool: &Path, content: &[u8]) -> Result<Memo, Error> {
    match content.split_first() {
        Some((&VERSION, body)) => codec::decode(body, "the memo").map_err(|error| Error::Damaged {
            what: error.to_string(),
            path: spool.join(NAME),
        }),
        found => Err(Error::FutureFormat {
            path: spool.join(NAME),
            found: found.map_or(0, |(version, _)| u32::from(*version)),
            supported: VERSION.into(),
        }),
    }
}

/// Remembers, durably: the old memo until then.
pub(crate) fn write(spool: &Path, memo: &Memo) -> Result<(), Error> {
    let body = codec::encode(memo).ok_or_else(|| {
        let text = "it is larger than an envelope may be";
        Error::storage("write the memo", spool.join(NAME))(std::io::Error::other(text))
    })?;
    sheet::replace(spool, NAME, &[&[VERSION][..], &body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_found_again_and_a_damaged_or_later_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let memo = Memo {
            batch_events: Some(7),
            ..Memo::default()
        };
        assert_eq!(read(dir.path(), None).unwrap(), (Memo::default(), None));
        let old = [&[VERSION][..], &codec::encode(&memo).unwrap()].concat();
        assert_eq!(read(dir.path(), Some(&old)).unwrap(), (memo.clone(), None));
        write(dir.path(), &Memo::default()).unwrap();
        assert_eq!(
            read(dir.path(), Some(&old)).unwrap(),
            (Memo::default(), None)
        );
        std::fs::write(dir.path().join(NAME), "x").unwrap();
        assert!(read(dir.path(), Some(&old)).unwrap().1.is_some());
        sheet::replace(dir.path(), NAME, &[2]).unwrap();
        let error = read(dir.path(), None).unwrap_err();
        assert!(matches!(error, Error::FutureFormat { found: 2, .. }));
    }
}
