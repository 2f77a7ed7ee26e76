//! The record of incidents, in the sheet `incidents`: durable, bounded, numbered.
//!
//! What an opening finds is put there before anything is changed because of it. What stands there
//! is not put there again, whether a person has seen it or not, although the damage itself may
//! stay for a while.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sheet::{self, Sheet};
use super::shelf::quarantine;
use crate::error::Error;
use crate::id::SeqRange;
use crate::incident::{Finding, Incident, IncidentKind};

/// The name of the sheet.
pub(crate) const NAME: &str = "incidents";

/// Incidents on record at the most. Beyond that the oldest goes, one that was seen if there is any.
const KEPT_MAX: usize = 256;

/// Characters of a text at the most.
const TEXT_MAX: usize = 400;

/// What was found wrong with a spool so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// How many there ever were: the number of the last one.
    count: u64,
    /// In order of their numbers.
    incidents: Vec<Incident>,
    /// Whether the sheet does not check, so that this begins anew.
    #[serde(skip)]
    is_damaged: bool,
}

impl Record {
    /// Reads the record. One that is damaged is an empty one, and a finding.
    pub(crate) fn read(spool: &Path) -> Result<(Self, Option<Finding>), Error> {
        let content = match sheet::read(spool, NAME)? {
            Sheet::Missing => return Ok((Self::default(), None)),
            Sheet::Content(content) => serde_json::from_slice(&content).ok(),
            Sheet::Damaged => None,
        };
        if let Some(record) = content {
            return Ok((record, None));
        }
        let what = "it does not check; what was found earlier is not known any more";
        let finding = Finding::new(IncidentKind::Damaged, NAME, what);
        let is_damaged = true;
        let record = Self {
            is_damaged,
            ..Self::default()
        };
        Ok((record, Some(finding)))
    }

    /// Which of these are not on record yet.
    pub(crate) fn news(&self, findings: &[Finding]) -> Vec<Finding> {
        let news = findings.iter().filter(|finding| !self.knows(finding));
        news.cloned().collect()
    }

    fn knows(&self, finding: &Finding) -> bool {
        if let Some(missing) = finding.missing {
            return self.covers(missing);
        }
        self.incidents.iter().any(|known| {
            (known.kind, &known.place, &known.what) == (finding.kind, &finding.place, &finding.what)
        })
    }

    /// Whether all of these events are on record as missing.
    pub(crate) fn covers(&self, range: SeqRange) -> bool {
        let mut known: Vec<SeqRange> = self.incidents.iter().filter_map(|i| i.missing).collect();
        known.sort();
        let mut next = range.first;
        for known in known {
            if known.first <= next && known.last >= next {
                if known.last >= range.last {
                    return true;
                }
                next = known.last + 1;
            }
        }
        false
    }

    /// Puts them on record. Gives them with their numbers. They are durable after
    /// [`write`](Self::write).
    pub(crate) fn add(&mut self, findings: Vec<Finding>, now_ms: u64) -> Vec<Incident> {
        let mut added = Vec::new();
        for finding in findings {
            self.count = self.count.saturating_add(1);
            let short = |text: String| text.chars().take(TEXT_MAX).collect();
            added.push(Incident {
                number: self.count,
                time_ms: now_ms,
                kind: finding.kind,
                place: short(finding.place),
                what: short(finding.what),
                missing: finding.missing,
                acknowledged_ms: None,
            });
        }
        self.incidents.extend(added.iter().cloned());
        while self.incidents.len() > KEPT_MAX {
            let seen = |incident: &Incident| incident.acknowledged_ms.is_some();
            let oldest = self.incidents.iter().position(seen).unwrap_or(0);
            self.incidents.remove(oldest);
        }
        added
    }

    /// Notes that a person has seen one of them, or all. Gives how many that concerned.
    pub(crate) fn acknowledge(&mut self, number: Option<u64>, now_ms: u64) -> u64 {
        let mut count = 0;
        for incident in &mut self.incidents {
            let is_meant = number.is_none_or(|number| number == incident.number);
            if is_meant && incident.acknowledged_ms.is_none() {
                incident.acknowledged_ms = Some(now_ms);
                count += 1;
            }
        }
        count
    }

    /// All that are on record.
    pub(crate) fn all(&self) -> &[Incident] {
        &self.incidents
    }

    /// Those that no person has seen yet.
    pub(crate) fn unseen(&self) -> Vec<Incident> {
        let unseen = self
            .incidents
            .iter()
            .filter(|i| i.acknowledged_ms.is_none());
        unseen.cloned().collect()
    }

    /// Makes the record durable. A sheet that does not check is kept in quarantine.
    pub(crate) fn write(&mut self, spool: &Path) -> Result<(), Error> {
        if self.is_damaged {
            quarantine(&spool.join(NAME), spool)?;
            self.is_damaged = false;
        }
        // Numbers and texts always serialise.
        let content = serde_json::to_vec_pretty(self).unwrap_or_default();
        sheet::replace(spool, NAME, &content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(first: u64, last: u64) -> Finding {
        Finding::events("journal", SeqRange { first, last }, "")
    }

    #[test]
    fn what_is_on_record_is_no_news_also_in_parts() {
        let mut record = Record::default();
        let damaged = Finding::new(IncidentKind::Damaged, "state", "a");
        let findings = [missing(3, 5), missing(6, 9), damaged.clone()];
        let added = record.add(record.news(&findings), 7);
        assert!(added.iter().map(|i| i.number).eq(1..=3));
        assert_eq!(record.acknowledge(Some(2), 8), 1);
        for known in [missing(3, 9), missing(4, 8), damaged] {
            assert!(record.news(&[known]).is_empty());
        }
        let other = Finding::new(IncidentKind::Damaged, "state", "b");
        for new in [missing(2, 5), missing(9, 10), other] {
            assert_eq!(record.news(std::slice::from_ref(&new)), [new]);
        }
        assert_eq!(record.unseen().len(), 2);
        assert_eq!(record.acknowledge(None, 9), 2);
    }

    #[test]
    fn the_record_is_bounded_and_what_was_seen_goes_first() {
        let mut record = Record::default();
        record.add(vec![missing(1, 1); KEPT_MAX], 0);
        record.acknowledge(Some(5), 1);
        record.add(vec![missing(2, 2); 2], 0);
        let numbers: Vec<u64> = record.all().iter().map(|i| i.number).collect();
        assert_eq!(numbers.len(), KEPT_MAX);
        assert_eq!((numbers[0], numbers[2], numbers[3]), (2, 4, 6));
        assert_eq!(numbers.last(), Some(&(KEPT_MAX as u64 + 2)));
    }

    #[test]
    fn a_damaged_record_is_kept_aside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::default();
        record.add(vec![missing(1, 1)], 0);
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), (record.clone(), None));
        std::fs::write(dir.path().join(NAME), "x").unwrap();
        let (mut again, finding) = Record::read(dir.path()).unwrap();
        again.add(finding.into_iter().collect(), 1);
        again.write(dir.path()).unwrap();
        assert!(dir.path().join("quarantine/incidents-1").exists());
        assert_eq!(Record::read(dir.path()).unwrap().0.all().len(), 1);
    }
}
