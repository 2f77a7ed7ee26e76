//! What the last message of a spool's subject says about a batch: decided without any connection.
//!
//! A spool writes its events in order, and a server takes a batch only behind the message that the
//! spool believes to be the last of its subject. So if that message is an event of this spool, each
//! event before it is in, and none behind it is. It is an event of this spool if the spool holds the
//! same id at the same place; a place alone proves nothing, since an older copy of a spool gives the
//! same places to other events (`docs/decisions/0055-an-old-copy-of-a-spool.md`).

use super::batch::Last;
use crate::id::{EventId, Seq};

/// How a batch stands to the last message of its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// None of it is in.
    Out,
    /// All up to this place are in.
    In { through: Seq },
    /// The message is none of this spool: nothing follows from it.
    Foreign,
}

/// How a batch that begins at the place `first` stands; `ours` is the id that the spool holds at the
/// place of the message, if it holds one there.
pub(super) fn standing(last: &Last, first: Seq, ours: Option<EventId>) -> Standing {
    match last.event {
        None if last.seq == 0 => Standing::Out,
        None => Standing::Foreign,
        // What is behind is settled, and not asked for any more.
        Some((place, _)) if place < first => Standing::Out,
        Some((place, id)) if ours == Some(id) => Standing::In { through: place },
        Some(_) => Standing::Foreign,
    }
}

/// What a foreign message is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// This spool is an older copy, or the message is left over of another writer: all is sent again
    /// behind it.
    Older,
    /// Another process writes under the same name.
    Rival,
}

/// Tells an older copy, which finds foreign messages once, from a rival, which goes on writing them.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Where the newest foreign message stands that was seen.
    seen: Option<u64>,
    /// Whether a batch of this spool was taken since one was seen.
    is_past: bool,
}

impl Watch {
    /// A foreign message stands at `seq`.
    pub(super) fn meets(&mut self, seq: u64) -> Taken {
        let is_new = self.seen != Some(seq);
        let is_rival = is_new && self.is_past;
        self.seen = Some(seq);
        // Once a person has seen to the rival, this message is sent over as any other.
        self.is_past = false;
        if is_rival { Taken::Rival } else { Taken::Older }
    }

    /// A batch of this spool was taken.
    pub(super) fn taken(&mut self) {
        self.is_past = self.is_past || self.seen.is_some();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_the_same_id_at_the_same_place_says_that_events_are_in() {
        let id = |n| EventId::from_uuid(Uuid::from_u128(n));
        let last = |seq, event| Last { seq, event };
        let found = last(90, Some((10, id(10))));
        let nothing = last(0, None);
        assert_eq!(standing(&nothing, 1, None), Standing::Out);
        assert_eq!(standing(&last(90, None), 1, None), Standing::Foreign);
        assert_eq!(standing(&found, 11, None), Standing::Out);
        let all = Standing::In { through: 10 };
        for first in [1, 10] {
            assert_eq!(standing(&found, first, Some(id(10))), all);
            assert_eq!(standing(&found, first, Some(id(11))), Standing::Foreign);
            assert_eq!(standing(&found, first, None), Standing::Foreign);
        }
    }

    #[test]
    fn a_rival_is_a_foreign_message_behind_a_batch_of_ours() {
        let mut watch = Watch::default();
        watch.taken();
        assert_eq!(watch.meets(5), Taken::Older);
        assert_eq!(watch.meets(5), Taken::Older, "looked up again");
        watch.taken();
        watch.taken();
        assert_eq!(watch.meets(9), Taken::Rival);
        assert_eq!(watch.meets(9), Taken::Older, "it writes no more");
        assert_eq!(
            watch.meets(12),
            Taken::Older,
            "nothing of ours was in between"
        );
        watch.taken();
        assert_eq!(watch.meets(20), Taken::Rival);
    }
}
