//! What was recorded, and the disks a power cut may have made of it.

use std::sync::Arc;

use super::mark::Mark;

/// What the recording disk saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Bytes were written at an offset.
    Write(usize, Box<[u8]>),
    /// Everything written before is on the medium.
    Flush,
    /// The workload said something.
    Mark(String),
}

/// What a disk may do with the writes after the last flush when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// All are there: a disk that never reorders.
    Prefix,
    /// Each is there with probability one half: a volatile cache.
    Drop,
    /// As `Drop`, and half of those that are there end at a random multiple of 512 bytes.
    Torn,
}

impl Model {
    pub(crate) const ALL: [Self; 3] = [Self::Prefix, Self::Drop, Self::Torn];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Drop => "drop",
            Self::Torn => "torn",
        }
    }
}

const SECTOR_BYTES: usize = 512;

/// One run of a workload, from a disk's content on.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The content at the beginning.
    pub(crate) image: Arc<Vec<u8>>,
    /// Everything since.
    pub(crate) entries: Vec<Entry>,
    /// Cuts are made from this position on.
    pub(crate) start: usize,
    /// Where the opening ends, if a power cut came before: half of the cuts are made until there.
    pub(crate) opening: Option<usize>,
    /// What was said before the beginning, on disks this one goes back to.
    pub(crate) before: Vec<Mark>,
}

impl Recording {
    /// A random position; half of them are moved on to just before the next flush, where the most
    /// is at stake.
    pub(crate) fn cut(&self, rng: &mut fastrand::Rng) -> usize {
        let end = match self.opening {
            Some(opening) if rng.bool() => opening,
            _ => self.entries.len(),
        };
        let cut = rng.usize(self.start..=end);
        if rng.bool() {
            return cut;
        }
        let rest = self.entries.get(cut..).unwrap_or_default();
        let flush = rest.iter().position(|entry| *entry == Entry::Flush);
        cut + flush.unwrap_or(0)
    }

    /// What was said up to a position.
    pub(crate) fn marks(&self, cut: usize) -> Vec<Mark> {
        let entries = self.entries.get(..cut).unwrap_or_default();
        let said = entries.iter().filter_map(|entry| match entry {
            Entry::Mark(line) => Mark::parse(line),
            _ => None,
        });
        self.before.iter().cloned().chain(said).collect()
    }

    /// How many writes are at stake at a position.
    pub(crate) fn unflushed(&self, cut: usize) -> usize {
        let entries = self.entries.get(..cut).unwrap_or_default();
        let since = entries
            .iter()
            .rev()
            .take_while(|entry| **entry != Entry::Flush);
        since
            .filter(|entry| matches!(entry, Entry::Write(..)))
            .count()
    }

    /// The disk after a power cut at a position.
    pub(crate) fn disk(&self, cut: usize, model: Model, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut image = Vec::clone(&self.image);
        let entries = self.entries.get(..cut).unwrap_or_default();
        let flushed = entries.iter().rposition(|entry| *entry == Entry::Flush);
        for (at, entry) in entries.iter().enumerate() {
            let Entry::Write(offset, data) = entry else {
                continue;
            };
            let kept = if flushed.is_some_and(|flush| at < flush) {
                data.len()
            } else {
                kept(data.len(), model, rng)
            };
            if let (Some(place), Some(data)) =
                (image.get_mut(*offset..offset + kept), data.get(..kept))
            {
                place.copy_from_slice(data);
            }
        }
        image
    }
}

/// How many bytes of an unflushed write are on the medium.
fn kept(len: usize, model: Model, rng: &mut fastrand::Rng) -> usize {
    match model {
        Model::Prefix => len,
        Model::Drop | Model::Torn if rng.bool() => 0,
        Model::Torn if rng.bool() => rng.usize(0..=len / SECTOR_BYTES) * SECTOR_BYTES,
        Model::Drop | Model::Torn => len,
    }
}

/// One seed from two: any change of either gives an unrelated one.
pub(super) fn mix(seed: u64, n: u64) -> u64 {
    // From SplitMix64, by Steele, Lea and Flood (2014).
    let mut z = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(n.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        let write =
            |sector: usize, byte| Entry::Write(sector * 512, vec![byte; 1024].into_boxed_slice());
        Recording {
            image: Arc::new(vec![0; 8192]),
            entries: vec![
                write(0, 1),
                Entry::Mark("ACK 1 0 1 1".into()),
                Entry::Flush,
                write(2, 2),
                write(4, 3),
                Entry::Mark("ACK 2 0 2 1".into()),
            ],
            start: 0,
            opening: None,
            before: vec![Mark::Open],
        }
    }

    #[test]
    fn what_was_flushed_is_always_there_and_what_came_later_never() {
        let recording = recording();
        for seed in 0..50 {
            for model in Model::ALL {
                let mut rng = fastrand::Rng::with_seed(seed);
                let disk = recording.disk(4, model, &mut rng);
                assert_eq!(disk[..1024], [1; 1024]);
                assert_eq!(disk[2048..], [0; 6144]);
            }
        }
        assert_eq!(recording.unflushed(4), 1);
        assert_eq!(recording.unflushed(3), 0);
        assert_eq!(recording.marks(4).len(), 2);
        assert_eq!(recording.marks(6).len(), 3);
    }

    #[test]
    fn the_models_differ_as_they_say() {
        let recording = recording();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let disk = recording.disk(6, Model::Prefix, &mut rng);
            assert_eq!((disk[1024], disk[2047], disk[2048]), (2, 2, 3));
            let disk = recording.disk(6, Model::Drop, &mut rng);
            assert_eq!(disk[1024], disk[2047], "a whole write or nothing");
            let disk = recording.disk(6, Model::Torn, &mut rng);
            seen.insert((disk[1024], disk[2047]));
        }
        assert!(seen.contains(&(2, 0)), "never torn");
        assert!(seen.contains(&(2, 2)) && seen.contains(&(0, 0)));
    }
}
