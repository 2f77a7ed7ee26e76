//! Removes from the stream of events what every cursor has passed, once it is old enough.
//!
//! What allows it (I16): nothing that stands above the cursor of any partition is removed, whatever its
//! age, and nothing that is younger than `keep`. The cursors are read first, each as some server has it:
//! one that is behind has an older, lower cursor. A partition whose cursor is below the place in question
//! is asked for what it holds next, from the leader. A leader that is none any more answers for some
//! seconds yet; what is older than `keep`, which is a minute at the least, it has.
//!
//! The place is noted before anything is removed, so that a worker can tell what workers removed from what
//! other people did.

use std::time::Duration;

use async_nats::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::Purged;
use super::connect::fleet;
use super::hold::Hold;
use super::record::Record;
use super::text::time_ms;
use super::wire::{Put, Wanted, Wire};
use crate::error::Error;
use crate::millis::unix_ms;
use crate::nats::Names;
use crate::observe;

/// Nothing younger is ever removed.
pub(super) const KEEP_MIN: Duration = Duration::from_secs(60);
/// Steps of the search for the last place that is old enough: enough for any stream.
const STEPS_MAX: u32 = 64;

/// Up to which place workers have removed events, or were about to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Removed {
    version: u32,
    through: u64,
}

fn subject(names: &Names) -> String {
    let mut subject = names.cursor_subjects();
    subject.pop();
    subject + "_removed"
}

async fn read(wire: &Wire, names: &Names) -> Result<(Removed, u64), Error> {
    match wire.last(&names.cursor_stream(), &subject(names)).await? {
        None => Ok((Removed::default(), 0)),
        Some((place, bytes)) => {
            let removed = serde_json::from_slice(&bytes);
            let removed =
                removed.map_err(|_| fleet("the record of what was removed cannot be read"))?;
            Ok((removed, place))
        }
    }
}

/// Up to which place workers have removed events, or were about to.
pub(super) async fn through(wire: &Wire, names: &Names) -> Result<u64, Error> {
    read(wire, names).await.map(|(removed, _)| removed.through)
}

/// Removes what may be removed, as the worker that holds the first partition. Gives how many that were.
pub(super) async fn round(hold: &Hold, keep: Duration) -> Result<u64, Error> {
    let claim = hold.claim();
    let (wire, names) = (&claim.wire, &*claim.names);
    let state = wire.info(names.stream()).await?.state;
    if state.messages == 0 {
        return Ok(0);
    }
    let passed = passed(wire, names, state.last_seq).await?;
    let before_ms = unix_ms(claim.clock.wall())
        .saturating_sub(u64::try_from(keep.max(KEEP_MIN).as_millis()).unwrap_or(u64::MAX));
    let through = last_before(wire, names, state.first_seq, passed, before_ms).await?;
    if through < state.first_seq {
        return Ok(0);
    }
    note(wire, names, through).await?;
    hold.ensure().await?;
    let body = json!({"seq": through.saturating_add(1)});
    let purged: Purged = wire.api("PURGE", names.stream(), &body).await??;
    observe::removed_delivered(purged.purged, through);
    Ok(purged.purged)
}

/// The last place that every partition has passed, `last` being the last there is.
async fn passed(wire: &Wire, names: &Names, last: u64) -> Result<u64, Error> {
    let cursors = cursors(wire, names).await?;
    let mut passed = last;
    for partition in 0..names.partitions() {
        let cursor = cursors
            .iter()
            .find(|(of, _)| *of == partition)
            .map_or(0, |(_, cursor)| *cursor);
        if cursor >= passed {
            continue;
        }
        let body = json!({
            "seq": cursor.saturating_add(1),
            "next_by_subj": names.partition_subject(partition)
        });
        if let Some(next) = wire.get(names.stream(), &body).await? {
            passed = passed.min(next.seq.saturating_sub(1));
        }
    }
    Ok(passed)
}

async fn cursors(wire: &Wire, names: &Names) -> Result<Vec<(u16, u64)>, Error> {
    let records = records(wire, names).await?;
    let cursor = |(partition, _, record): (u16, u64, Result<Record, Error>)| {
        record.map(|record| (partition, record.seq))
    };
    records.into_iter().map(cursor).collect()
}

/// The records of all partitions that have one, each with its place, as some server has them.
pub(super) async fn records(
    wire: &Wire,
    names: &Names,
) -> Result<Vec<(u16, u64, Result<Record, Error>)>, Error> {
    let subjects = names.cursor_subjects();
    let page = wire
        .fetch(&names.cursor_stream(), &Wanted::LastOf(&subjects))
        .await?;
    let prefix = subjects.trim_end_matches('>');
    let numbered = page.entries.iter().filter_map(|entry| {
        let partition = entry.subject.strip_prefix(prefix)?.parse::<u16>().ok()?;
        let record = Record::read(partition, &entry.payload);
        (partition < names.partitions()).then_some((partition, entry.seq, record))
    });
    Ok(numbered.collect())
}

/// The last place up to `last` whose message was stored before this time; what is before `first` if there
/// is none.
async fn last_before(
    wire: &Wire,
    names: &Names,
    first: u64,
    last: u64,
    before_ms: u64,
) -> Result<u64, Error> {
    // Everything up to `old` is old enough, and what stands at `young` is not.
    let (mut old, mut young) = (first.saturating_sub(1), last.saturating_add(1));
    for _ in 0..STEPS_MAX {
        if young.saturating_sub(old) <= 1 {
            break;
        }
        let middle = old + (young - old) / 2;
        let body = json!({"seq": middle, "next_by_subj": ">"});
        let got = wire.get(names.stream(), &body).await?;
        let Some(got) = got.filter(|got| got.seq < young) else {
            // Nothing stands between: the places up to there are empty.
            young = middle;
            continue;
        };
        let stored = time_ms(&got.time)
            .ok_or_else(|| fleet("the server does not say when a message was stored"))?;
        if stored < before_ms {
            old = got.seq;
        } else {
            young = middle;
        }
    }
    Ok(old)
}

/// Notes up to where events are about to be removed. It only grows.
async fn note(wire: &Wire, names: &Names, through: u64) -> Result<(), Error> {
    let (removed, place) = read(wire, names).await?;
    if removed.through >= through {
        return Ok(());
    }
    let note = Removed {
        version: 1,
        through,
    };
    let bytes = serde_json::to_vec(&note).unwrap_or_default().into();
    let stream = names.cursor_stream();
    let put = wire.put(&stream, subject(names), place, HeaderMap::new(), bytes);
    match put.await? {
        Put::Stored(_) => Ok(()),
        Put::Guarded => Err(fleet("another worker removes at the same time")),
    }
}
