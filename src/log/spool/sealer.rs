//! The sealer: which part of the tail goes to the shelf next, when, and what is on its way there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::progress::Mark;
use super::seal::seal;
use crate::error::Error;
use crate::id::Seq;
use crate::log::guard::Guard;
use crate::log::journal::{Later, Through};
use crate::log::run::Run;
use crate::log::shelf::{begun::Begun, keeper::Keeper};
use crate::settings::Settings;

/// How long a failed sealing rests before it is tried again.
const REST: Duration = Duration::from_secs(1);

/// Chunks that are sealed together at the most: an append that waits for room waits for all of them.
const CHUNKS_AT_ONCE: u64 = 4;

/// What is being sealed, and when to seal.
#[derive(Debug)]
pub(super) struct Sealer {
    chunk_bytes: u64,
    tail_bytes: u64,
    under_way: Option<UnderWay>,
    rest: Option<Rest>,
}

/// Chunks on their way to the shelf: the tail has them until they are durable there.
#[derive(Debug)]
struct UnderWay {
    last: Seq,
    /// How far the log is durable once the journal was synced first.
    with_sync: Mark,
    begun: Begun<Result<Option<Through>, Error>>,
}

/// After a sealing that failed.
#[derive(Debug)]
struct Rest {
    until: Duration,
    kind: io::ErrorKind,
    text: String,
}

/// What is on the shelf and durable.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) last: Seq,
    /// How far the journal was synced before, if it was.
    pub(super) synced: Option<(Through, Mark)>,
}

impl Sealer {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            chunk_bytes: settings.chunk_bytes,
            tail_bytes: settings.tail_bytes,
            under_way: None,
            rest: None,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// The last event of what is under way.
    #[cfg(test)]
    pub(super) fn last_under_way(&self) -> Option<Seq> {
        self.under_way.as_ref().map(|sealing| sealing.last)
    }

    /// Whether a tail of so many bytes is past its bound.
    pub(super) fn is_long(&self, tail_bytes: u64) -> bool {
        tail_bytes > self.tail_bytes
    }

    /// Whether a tail of so many bytes has to wait for the shelf: memory is bounded, and so the rate.
    pub(super) fn is_far_behind(&self, tail_bytes: u64) -> bool {
        self.is_under_way() && tail_bytes / 2 > self.tail_bytes
    }

    /// Whether anything is under way or due.
    pub(super) fn is_behind(&self, tail_bytes: u64) -> bool {
        self.is_under_way() || self.is_long(tail_bytes)
    }

    /// How many bytes of such a tail are sealed together: more if it has grown meanwhile, since the
    /// syncs are shared then.
    pub(super) fn bytes_at_once(&self, tail_bytes: u64) -> u64 {
        let over = tail_bytes.saturating_sub(self.tail_bytes);
        over.clamp(self.chunk_bytes, CHUNKS_AT_ONCE * self.chunk_bytes)
    }

    /// Whether it failed a moment ago: asking the disk again at every append would only be slow.
    pub(super) fn is_resting(&self, now: Duration) -> bool {
        self.rest.as_ref().is_some_and(|rest| rest.until > now)
    }

    /// # Errors
    /// What it failed of, while it rests.
    pub(super) fn check_rest(&self, now: Duration, segments: &Path) -> Result<(), Error> {
        match &self.rest {
            Some(Rest { until, kind, text }) if *until > now => {
                let source = io::Error::new(*kind, text.clone());
                Err(Error::storage("seal a chunk", segments)(source))
            }
            _ => Ok(()),
        }
    }

    /// Begins to seal these runs, the journal first if there is a `sync` to do.
    pub(super) fn begin(
        &mut self,
        runs: Vec<Run>,
        sync: Option<Later>,
        with_sync: Mark,
        shelf: &mut Keeper,
        guard: &Arc<Guard>,
    ) {
        let last = runs.last().map_or(0, Run::last);
        let guard = Arc::clone(guard);
        let begun = shelf.begin(move |shelf| {
            // Segments are made and moved by path.
            guard.check()?;
            let synced = sync.map(Later::sync).transpose()?;
            seal(shelf, &runs)?;
            Ok(synced)
        });
        self.under_way = Some(UnderWay {
            last,
            with_sync,
            begun,
        });
    }

    /// What was sealed, if anything was and is, or after waiting for it.
    pub(super) fn finish(
        &mut self,
        wait: bool,
        shelf: &mut Keeper,
        now: Duration,
    ) -> Option<Result<Sealed, Error>> {
        let sealing = self
            .under_way
            .take_if(|sealing| wait || sealing.begun.is_done())?;
        let sealed = shelf.finish(sealing.begun);
        self.rest = sealed.as_ref().err().map(|error| Rest {
            until: now + REST,
            kind: match error {
                Error::Storage { source, .. } => source.kind(),
                _ => io::ErrorKind::Other,
            },
            text: error.to_string(),
        });
        Some(sealed.map(|through| Sealed {
            last: sealing.last,
            synced: through.map(|through| (through, sealing.with_sync)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new(&Settings {
            chunk_bytes: 100,
            tail_bytes: 1000,
            ..Settings::default()
        })
    }

    #[test]
    fn more_is_sealed_at_once_if_the_tail_has_grown() {
        let sealer = sealer();
        for (tail, at_once) in [(0, 100), (1050, 100), (1250, 250), (9000, 400)] {
            assert_eq!(sealer.bytes_at_once(tail), at_once, "{tail}");
        }
        assert!(!sealer.is_behind(1000) && sealer.is_behind(1001));
        assert!(!sealer.is_far_behind(9000), "there is nothing to wait for");
    }

    #[test]
    fn after_a_failure_it_rests_for_a_moment_and_says_why() {
        let mut sealer = sealer();
        let now = Duration::from_secs(7);
        let dir = Path::new("segments");
        sealer.check_rest(now, dir).unwrap();
        sealer.rest = Some(Rest {
            until: now + REST,
            kind: io::ErrorKind::StorageFull,
            text: "no room".into(),
        });
        assert!(sealer.is_resting(now));
        let error = sealer.check_rest(now, dir).unwrap_err();
        assert!(error.is_out_of_room(), "{error:?}");
        assert!(!sealer.is_resting(now + REST));
        sealer.check_rest(now + REST, dir).unwrap();
    }
}
