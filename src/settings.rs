//! Settings: plain data, checked as a whole when the queue opens.

mod delivery;
mod problems;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::problems::Problems;
use crate::error::Error;
use crate::size;

pub use self::delivery::Delivery;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Below this, segments are divided more finely.
pub(crate) const SMALL_SEGMENT_BYTES: u64 = MIB;

pub(crate) const JOURNAL_BYTES_MIN: u64 = 16 * KIB;
/// Also of the tail.
const CHUNK_BYTES_MIN: u64 = 4 * KIB;
const INTAKE_BYTES_MIN: u64 = 64 * KIB;

/// When an append says yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Durability {
    /// Written and fdatasynced: survives a power cut, as far as the disk tells the truth.
    Synced,
    /// Written to the operating system: survives the death of the process. A power cut may cost
    /// what was appended during the last `sync_every`.
    Written {
        /// How long written events may wait for their fdatasync.
        #[serde(with = "humantime_serde")]
        sync_every: Duration,
    },
}

/// What an append does when the spool has reached its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Answer with [`AppendError::Full`](crate::AppendError::Full) at once.
    Reject,
    /// Wait until delivery has made room. Appends keep their order while they wait.
    Block,
    /// Give up the oldest pending events, counted under `evicted` and reported.
    DropOldest,
}

/// All settings of a queue. Everything is bounded by default.
///
/// For a small spool it is enough to set `max_bytes`, from 596 KiB: where the sizes do not fit into
/// it, those that are left at their default are scaled down, as [`in_effect`](Self::in_effect)
/// shows. Sizes that are set are kept, or refused if `max_bytes` has no room for them.
///
/// A size is read from a number of bytes, or from a text with a unit: `"64MiB"` and `"64Mi"` count by
/// 1024, `"1 GB"` and `"512k"` by 1000. It is written as a number of bytes.
///
/// A queue has the settings that its [`QueueBuilder`](crate::QueueBuilder) is given. The file
/// `settings.toml` in a spool belongs to the command `everpost`, which reads it before it opens the
/// spool; the library does not, and a look at a spool applies no settings at all.
///
/// ```
/// use everpost::Settings;
///
/// let settings = Settings {
///     max_bytes: 64 << 20,
///     ..Settings::default()
/// };
/// settings.check()?;
/// # Ok::<(), everpost::Error>(())
/// ```
///
/// ```
/// let settings: everpost::Settings = toml::from_str(r#"max_bytes = "64MiB""#)?;
/// assert_eq!(settings.max_bytes, 64 << 20);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When an append says yes. Default: `Synced`, since that is what people believe they get.
    pub durability: Durability,
    /// What happens at the bound. Default: `Reject`, a clear error that the caller sees.
    pub on_full: OnFull,
    /// Bytes on disk for the whole spool, dead letters included, what damage left in
    /// `quarantine/` not. Default 1 GiB: weeks of a busy bot, and no disk is filled by surprise.
    #[serde(deserialize_with = "size::deserialize")]
    pub max_bytes: u64,
    /// Bytes of JSON in one event. Default 256 KiB; at most a quarter of `journal_bytes`.
    #[serde(deserialize_with = "size::deserialize")]
    pub max_event_bytes: u64,
    /// Events older than this become dead letters with that reason. Default: none, an outage
    /// costs nothing but time.
    #[serde(with = "humantime_serde")]
    pub max_age: Option<Duration>,
    /// Bytes of each of the three preallocated journal files. Default 4 MiB: a few seconds of
    /// full speed between recyclings.
    #[serde(deserialize_with = "size::deserialize")]
    pub journal_bytes: u64,
    /// Bytes of the newest events kept in memory before the oldest of them are sealed into a
    /// chunk. Default 2 MiB; at most `journal_bytes`.
    #[serde(deserialize_with = "size::deserialize")]
    pub tail_bytes: u64,
    /// Uncompressed bytes of one chunk. Default 256 KiB: large enough to compress well, small
    /// enough to be read for one batch.
    #[serde(deserialize_with = "size::deserialize")]
    pub chunk_bytes: u64,
    /// Bytes at which a segment is full and the next is begun. Default 16 MiB: the unit in which
    /// disk space comes back. Below 1 MiB, segments and dead letters are divided more finely:
    /// they take less room on the disk, and more syncs.
    #[serde(deserialize_with = "size::deserialize")]
    pub segment_bytes: u64,
    /// Bytes of appends that may wait for the log at once; further callers wait. Default 8 MiB.
    #[serde(deserialize_with = "size::deserialize")]
    pub intake_bytes: u64,
    /// How batches are sent.
    pub delivery: Delivery,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            on_full: OnFull::Reject,
            max_bytes: 1024 * MIB,
            max_event_bytes: 256 * KIB,
            max_age: None,
            journal_bytes: 4 * MIB,
            tail_bytes: 2 * MIB,
            chunk_bytes: 256 * KIB,
            segment_bytes: 16 * MIB,
            intake_bytes: 8 * MIB,
            delivery: Delivery::default(),
        }
    }
}

impl Settings {
    /// The settings as the queue uses them. Where `max_bytes` is below 40 MiB and they do not fit,
    /// each size that has its default is scaled: `journal_bytes` and `segment_bytes` to a sixteenth of `max_bytes`,
    /// or less if that is too much; `tail_bytes` to half and `chunk_bytes` to a quarter of that;
    /// `max_event_bytes` to a quarter of `journal_bytes`; `intake_bytes` to a quarter of
    /// `max_bytes`. And [`Delivery::batch_events_max`] is `batch_events` where that alone is set.
    /// Otherwise these settings, unchanged.
    #[must_use]
    pub fn in_effect(&self) -> Self {
        let plain = Self::default();
        let mut fit = Self {
            delivery: self.delivery.in_effect(),
            ..self.clone()
        };
        if self.max_bytes >= plain.floor_bytes() || self.check_as_they_are().is_ok() {
            return fit;
        }
        let scale = |value: &mut u64, default: u64, to: u64| {
            if *value == default {
                *value = to.min(default);
            }
        };
        let share = self.share_bytes();
        let journal_bytes = share.max(JOURNAL_BYTES_MIN);
        scale(&mut fit.journal_bytes, plain.journal_bytes, journal_bytes);
        let tail_bytes = (share / 2).clamp(CHUNK_BYTES_MIN, fit.journal_bytes.max(CHUNK_BYTES_MIN));
        scale(&mut fit.tail_bytes, plain.tail_bytes, tail_bytes);
        let chunk_bytes = (share / 4).max(CHUNK_BYTES_MIN);
        scale(&mut fit.chunk_bytes, plain.chunk_bytes, chunk_bytes);
        let segment_bytes = share.max(fit.chunk_bytes);
        scale(&mut fit.segment_bytes, plain.segment_bytes, segment_bytes);
        let event_bytes = fit.journal_bytes / 4;
        scale(&mut fit.max_event_bytes, plain.max_event_bytes, event_bytes);
        let intake_bytes = (self.max_bytes / 4).max(INTAKE_BYTES_MIN);
        scale(&mut fit.intake_bytes, plain.intake_bytes, intake_bytes);
        fit
    }

    /// What a small spool has for one journal file or one segment, in whole blocks of the disk.
    /// At the least bounds, what [`floor_bytes`](Self::floor_bytes) leaves.
    fn share_bytes(&self) -> u64 {
        let left = self
            .max_bytes
            .saturating_sub(fixed_bytes(self.max_bytes / 16));
        let share = (self.max_bytes / 16).min(left / 6);
        if share < JOURNAL_BYTES_MIN {
            0
        } else {
            share / CHUNK_BYTES_MIN * CHUNK_BYTES_MIN
        }
    }

    /// Checks all fields together, as they are [`in_effect`](Self::in_effect).
    ///
    /// # Errors
    /// [`Error::Settings`] with one sentence for each field out of its range.
    pub fn check(&self) -> Result<(), Error> {
        self.in_effect().check_as_they_are()
    }

    fn check_as_they_are(&self) -> Result<(), Error> {
        let mut problems = Problems::default();
        let journal = self.journal_bytes;
        let most = 1024 * MIB;
        problems.size("journal_bytes", journal, JOURNAL_BYTES_MIN, most);
        problems.size("max_event_bytes", self.max_event_bytes, 1, journal / 4);
        problems.size("tail_bytes", self.tail_bytes, CHUNK_BYTES_MIN, journal);
        let chunk = self.chunk_bytes;
        problems.size("chunk_bytes", chunk, CHUNK_BYTES_MIN, 4 * MIB);
        problems.size("segment_bytes", self.segment_bytes, chunk, most);
        problems.size("intake_bytes", self.intake_bytes, INTAKE_BYTES_MIN, most);
        problems.size("max_bytes", self.max_bytes, self.floor_bytes(), u64::MAX);
        if let Some(max_age) = self.max_age {
            let least = Duration::from_secs(1);
            problems.time("max_age", max_age, least, Duration::MAX);
        }
        if let Durability::Written { sync_every } = self.durability {
            let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
            problems.time("sync_every", sync_every, least, most);
        }
        self.delivery.check(&mut problems);
        problems.verdict()
    }

    /// The least `max_bytes` these settings can work within: the journal files, the largest append
    /// (half a journal file, which may grow threefold on disk), the ballast, the state and room
    /// for one segment.
    pub(crate) fn floor_bytes(&self) -> u64 {
        self.journal_bytes
            .saturating_mul(5)
            .saturating_add(self.segment_bytes)
            .saturating_add(fixed_bytes(self.segment_bytes))
    }
}

/// What a spool needs beside journal and segments: ballast, state, and what sled fills up, all of
/// which depend on how segments are divided.
fn fixed_bytes(segment_bytes: u64) -> u64 {
    if segment_bytes < SMALL_SEGMENT_BYTES {
        512 * KIB
    } else {
        4 * MIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_usable() {
        Settings::default().check().unwrap();
    }

    #[test]
    fn every_small_bound_alone_is_usable_and_no_other_value_changes_then() {
        let least = 596 * KIB;
        let with = |max_bytes| Settings {
            max_bytes,
            ..Settings::default()
        };
        assert!(with(least - 1).check().is_err());
        let mut max_bytes = least;
        while max_bytes < 50 * MIB {
            with(max_bytes).check().unwrap();
            max_bytes += 3331;
        }
        let plain = with(Settings::default().floor_bytes());
        assert_eq!(plain.in_effect(), plain);
        let fit = with(MIB).in_effect();
        assert_eq!((fit.journal_bytes, fit.segment_bytes), (64 * KIB, 64 * KIB));
        assert_eq!((fit.tail_bytes, fit.chunk_bytes), (32 * KIB, 16 * KIB));
        assert_eq!(
            (fit.max_event_bytes, fit.intake_bytes),
            (16 * KIB, 256 * KIB)
        );
        assert_eq!(fit.in_effect(), fit);
    }

    #[test]
    fn a_batch_size_that_is_set_alone_is_the_bound_too() {
        let mut settings = Settings::default();
        assert_eq!(settings.in_effect(), settings);
        settings.delivery.batch_events = 7;
        assert_eq!(settings.in_effect().delivery.batch_events_max, 7);
        settings.delivery.batch_events_max = 70;
        assert_eq!(settings.in_effect().delivery.batch_events_max, 70);
        settings.check().unwrap();
        settings.delivery.batch_events_max = 6;
        let text = settings.check().unwrap_err().to_string();
        let range = "`batch_events_max` is 6 and must be from 7 to 100000";
        assert!(text.contains(range), "{text}");
    }

    #[test]
    fn what_is_set_is_kept_or_refused_by_name_in_a_small_spool() {
        let mut settings = Settings {
            max_bytes: MIB,
            journal_bytes: 32 * KIB,
            ..Settings::default()
        };
        settings.check().unwrap();
        assert_eq!(settings.in_effect().journal_bytes, 32 * KIB);
        assert_eq!(settings.in_effect().max_event_bytes, 8 * KIB);
        settings.journal_bytes = 512 * KIB;
        let text = settings.check().unwrap_err().to_string();
        assert!(
            text.contains("`max_bytes` is 1 MiB and must be at least "),
            "{text}"
        );
        settings.journal_bytes = 32 * KIB;
        settings.max_event_bytes = 9 * KIB;
        let text = settings.check().unwrap_err().to_string();
        assert!(text.contains("`max_event_bytes` is 9 KiB"), "{text}");
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let mut settings = Settings {
            journal_bytes: 1,
            max_bytes: 5,
            ..Settings::default()
        };
        settings.delivery.batch_events = 0;
        settings.delivery.backoff_jitter = f64::NAN;
        settings.delivery.probe_max = Duration::ZERO;
        let text = settings.check().unwrap_err().to_string();
        for field in [
            "journal_bytes",
            "max_bytes",
            "batch_events",
            "backoff_jitter",
            "probe_max",
        ] {
            assert!(text.contains(field), "{field} missing in: {text}");
        }
    }
}
