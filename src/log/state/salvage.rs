//! What can be read of the state without sled.

use std::collections::BTreeSet;
use std::path::Path;

use super::{LETTERS, MEMO, REMOVED, erase};
use crate::error::Error;
use crate::event::Seq;
use crate::log::piece::{Key, Scan, Whole};
use crate::log::store::Store;

/// What a scan of the file says should be in the state.
pub(super) struct Salvage {
    pub(super) letters: BTreeSet<(Seq, Whole)>,
    seqs: BTreeSet<Seq>,
    memos: BTreeSet<(u64, Whole)>,
}

impl Salvage {
    pub(super) fn of(scan: &Scan, path: &Path) -> Result<Self, Error> {
        let mut removed = BTreeSet::new();
        for (seq, whole, _) in scan.values(REMOVED) {
            let value = scan.read(Key::new(REMOVED, seq), whole);
            let value = value.map_err(Error::storage("read the state", path))?;
            let names = value.unwrap_or_default();
            removed.extend(names.chunks(8).map(|name| (seq, name.to_vec())));
        }
        let all = scan.values(LETTERS).map(|(seq, whole, _)| (seq, whole));
        let letters: BTreeSet<_> = all
            .filter(|(seq, whole)| !removed.contains(&(*seq, whole.to_bytes().to_vec())))
            .collect();
        Ok(Self {
            seqs: letters.iter().map(|(seq, _)| *seq).collect(),
            letters,
            memos: scan.values(MEMO).map(|(n, whole, _)| (n, whole)).collect(),
        })
    }

    /// Removes the letters whose writing a crash cut off. The file shows no damage, so nobody
    /// was told that they are safe.
    pub(super) fn remove_torn(&self, store: &mut Store) -> Result<(), Error> {
        let mut from = 0;
        while let Some((seq, _)) = store.next(LETTERS, from)? {
            let known = self.seqs.contains(&seq);
            if !known
                && matches!(
                    store.read(Key::new(LETTERS, seq)),
                    Err(Error::Damaged { .. })
                )
            {
                erase(store, seq, None)?;
            }
            from = seq.saturating_add(1);
        }
        store.sync()
    }

    /// Whether sled has a letter for each, and the last memo.
    pub(super) fn is_in(&self, store: &Store) -> Result<bool, Error> {
        let memo = self.memos.last().map(|(number, _)| *number);
        let found = (|| {
            for (seq, _) in &self.letters {
                if store.read(Key::new(LETTERS, *seq))?.is_none() {
                    return Ok(false);
                }
            }
            Ok(store.last(MEMO)? >= memo)
        })();
        match found {
            Err(Error::Damaged { .. }) => Ok(false),
            other => other,
        }
    }

    /// Copies everything to a new store, durably, each value from the first scan that has it.
    /// Gives the number of letters.
    pub(super) fn copy(
        &self,
        scans: &[&Scan],
        store: &mut Store,
        path: &Path,
    ) -> Result<usize, Error> {
        let mut saved = BTreeSet::new();
        let letters = self.letters.iter().map(|(n, whole)| (LETTERS, *n, *whole));
        let memo = self.memos.last().map(|(n, whole)| (MEMO, *n, *whole));
        for (space, number, whole) in letters.chain(memo) {
            let key = Key::new(space, number);
            let values = scans.iter().map(|scan| scan.read(key, whole));
            let value = values.filter_map(Result::transpose).next().transpose();
            if let Some(value) = value.map_err(Error::storage("read the state", path))? {
                store.put(key, &value)?;
                saved.extend((space == LETTERS).then_some(number));
            }
        }
        store.sync()?;
        Ok(saved.len())
    }
}
