//! Looks around the openings: each changes nothing, and says and sees what the opening after it
//! does (I10, I11); what was found stays told (I13).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use everpost::inspect::{Report, look, verify};
use everpost::{
    DeadLetter, Error, Incident, IncidentKind, Ledger, LetterLedger, Queue, Recovery, Seq,
    SeqRange, StoredEvent,
};

use crate::oracle::{Broken, check_events, ensure};
use crate::spool::{Base, REFUSED, contents};

/// More than there is.
const ALL: usize = 10_000;

/// An incident without its number and time.
type Told = (IncidentKind, String, String, Option<SeqRange>);

fn told(incident: &Incident) -> Told {
    let Incident {
        kind, place, what, ..
    } = incident.clone();
    (kind, place, what, incident.missing)
}

/// What the looks said.
#[derive(Debug)]
pub(crate) enum Looked {
    Saw(Box<Saw>),
    Refused(Error),
}

/// What they saw.
#[derive(Debug)]
pub(crate) struct Saw {
    report: Report,
    /// What an opening would put on record.
    news: Vec<Told>,
    /// What no person has acknowledged.
    unseen: Vec<Told>,
    events: Vec<StoredEvent>,
    letters: BTreeMap<Seq, DeadLetter>,
    ledger: Ledger,
    letter_books: LetterLedger,
}

impl Looked {
    /// Looks in every way there is. Not a byte may change by it.
    pub(crate) fn at(base: &Base, spool: &Path) -> Result<Self, Broken> {
        let before = contents(spool);
        let looked = match (verify(spool), saw(spool)) {
            (Ok(report), Ok(saw)) => Self::Saw(Box::new(Saw { report, ..saw })),
            (Err(one), Err(other)) => {
                ensure!(
                    one.to_string() == other.to_string(),
                    "verify {one}, look {other}"
                );
                Self::Refused(one)
            }
            (report, saw) => return Err(Broken(format!("verify {report:?}, look {saw:?}"))),
        };
        ensure!(before == contents(spool), "a look changed the spool");
        if let Self::Saw(saw) = &looked {
            saw.check(base)?;
        }
        Ok(looked)
    }

    /// Whether the looks were refused as an opening was.
    pub(crate) fn is_refused_like(&self, error: &Error) -> bool {
        matches!(self, Self::Refused(refused) if refused.to_string() == error.to_string())
    }

    pub(crate) fn is_sound(&self) -> bool {
        matches!(self, Self::Saw(saw) if saw.report.is_sound() && saw.news.is_empty())
    }

    /// After an opening and a close there is no news but of what an opening does not read, and
    /// nothing that was read before is gone.
    pub(crate) fn check_again(&self, before: &Self) -> Result<(), Broken> {
        let (Self::Saw(now), Self::Saw(before)) = (self, before) else {
            return Err(Broken(format!(
                "it opened, and a look says {self:?}, {before:?}"
            )));
        };
        ensure!(
            now.news.is_empty(),
            "after the opening there is news: {:?}",
            now.news
        );
        let is_older = |place: &Path| place.starts_with("segments");
        let strange = now.report.errors.iter().find(|flaw| !is_older(&flaw.place));
        ensure!(strange.is_none(), "after the opening: {strange:?}");
        // The journal may have what a stranger's segment hid.
        let gone = before.events.iter().find(|e| !now.events.contains(e));
        ensure!(
            gone.is_none() && now.letters == before.letters,
            "the opening took what could be read before: {gone:?}"
        );
        Ok(())
    }

    /// What was found damaged and is not in its place any more is in quarantine, as it was.
    pub(crate) fn check_quarantine(
        &self,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        spool: &Path,
    ) -> Result<(), Broken> {
        let Self::Saw(saw) = self else { return Ok(()) };
        let after = contents(spool);
        let aside = |bytes: &Vec<u8>| {
            let mut files = after.iter();
            files.any(|(file, now)| file.starts_with("quarantine") && now == bytes)
        };
        for (file, bytes) in before.iter().filter(|(file, _)| file.ends_with("db")) {
            let dir = file.parent().unwrap_or(file);
            let was_named = saw
                .news
                .iter()
                .any(|(_, place, ..)| Path::new(place) == dir);
            ensure!(
                !was_named || after.get(file) == Some(bytes) || aside(bytes),
                "{} was named and is nowhere as it was",
                file.display()
            );
        }
        Ok(())
    }
}

fn saw(spool: &Path) -> Result<Saw, Error> {
    let mut look = look(spool)?;
    let status = look.status();
    let unseen: Vec<&Incident> = status.incidents.iter().collect();
    let mut letters = BTreeMap::new();
    for seq in REFUSED {
        match look.letter(seq) {
            Ok(letter) => drop(letters.insert(seq, letter)),
            Err(Error::NoSuchLetter { .. } | Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Saw {
        report: Report::default(),
        news: unseen
            .iter()
            .filter(|i| i.number == 0)
            .map(|i| told(i))
            .collect(),
        unseen: unseen.iter().map(|i| told(i)).collect(),
        events: look.peek(0, ALL)?,
        letters,
        ledger: status.ledger,
        letter_books: status.letters,
    })
}

impl Saw {
    /// Whether verify says it.
    fn is_said(&self, (_, place, what, _): &Told) -> bool {
        let mut errors = self.report.errors.iter();
        errors.any(|flaw| flaw.place == Path::new(place) && flaw.what == *what)
    }

    /// The looks agree with each other.
    fn check(&self, base: &Base) -> Result<(), Broken> {
        let report = &self.report;
        check_events(base, &self.events, "a look")?;
        ensure!(
            !report.disturbed,
            "nothing writes, and a look was disturbed"
        );
        ensure!(
            report.events == self.events.len() as u64
                && report.dead_letters == self.letters.len() as u64
                && (report.ledger, report.letters) == (self.ledger, self.letter_books),
            "verify and look differ: {self:?}"
        );
        let unsaid = self.news.iter().find(|told| !self.is_said(told));
        ensure!(
            unsaid.is_none(),
            "verify does not say {unsaid:?}: {report:?}"
        );
        // What verify says beyond that is in segments that an opening does not read.
        let is_said = |place: &Path, text: &str| {
            let mut news = self.news.iter();
            news.any(|(_, at, what, _)| Path::new(at) == place && what == text)
        };
        let strange = report
            .errors
            .iter()
            .find(|flaw| !is_said(&flaw.place, &flaw.what) && !flaw.place.starts_with("segments"));
        ensure!(strange.is_none(), "only verify says {strange:?}");
        Ok(())
    }
}

/// The opening found what the look had said, and sees what it saw.
pub(crate) async fn check_opened(
    looked: &Looked,
    queue: &Queue,
    seen: &[StoredEvent],
) -> Result<(), Broken> {
    let Looked::Saw(saw) = looked else {
        return Err(Broken(format!("it opens, and a look says {looked:?}")));
    };
    let incidents: Vec<Told> = queue.recovery().incidents.iter().map(told).collect();
    ensure!(
        incidents == saw.news,
        "the opening found {incidents:?}, and the look {:?}",
        saw.news
    );
    let status = queue.status();
    let unseen: Vec<Told> = status.incidents.iter().map(told).collect();
    // Reading has put on record what is in older segments; verify had read them too.
    let (of_opening, of_reading) = unseen.split_at(unseen.len().min(saw.unseen.len()));
    let is_said = |told: &&Told| saw.is_said(told);
    ensure!(
        of_opening == saw.unseen && of_reading.iter().all(|told| is_said(&told)),
        "incidents: {unseen:?}, and the look {:?}",
        saw.unseen
    );
    ensure!(
        (status.ledger, status.letters) == (saw.ledger, saw.letter_books),
        "books: {:?} {:?}, and the look {saw:?}",
        status.ledger,
        status.letters
    );
    ensure!(
        seen == saw.events,
        "the owner reads {} events, and the look read {}",
        seen.len(),
        saw.events.len()
    );
    for seq in REFUSED {
        let letter = queue.dead_letters().show(seq).await.ok();
        ensure!(
            letter.as_ref() == saw.letters.get(&seq),
            "letter {seq} is {letter:?}, and the look saw {:?}",
            saw.letters.get(&seq)
        );
    }
    Ok(())
}

/// What was found is on record still, and with it every event that was lost.
pub(crate) async fn check_record(
    queue: &Queue,
    recovery: &Recovery,
    lost: &[SeqRange],
) -> Result<(), Broken> {
    let listed = queue.incidents().list().await;
    let listed = listed.map_err(|error| Broken(format!("incidents: {error}")))?;
    for incident in &recovery.incidents {
        ensure!(
            listed.contains(incident),
            "{incident:?} is not on record any more"
        );
    }
    let is_known = |seq: &Seq| {
        let mut ranges = listed.iter().filter_map(|incident| incident.missing);
        ranges.any(|range| range.first <= *seq && *seq <= range.last)
    };
    let unknown = lost
        .iter()
        .flat_map(|r| r.first..=r.last)
        .find(|seq| !is_known(seq));
    ensure!(
        unknown.is_none(),
        "{unknown:?} was lost and is not on record"
    );
    Ok(())
}
