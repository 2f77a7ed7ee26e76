//! What the log's thread tells of where its log stands.

use tokio::sync::watch;

use super::Position;
use super::followers::Leader;

/// Makes the position public.
pub(super) struct Told {
    publish: watch::Sender<Position>,
    leader: Leader,
}

impl Told {
    pub(super) fn new(publish: watch::Sender<Position>, leader: Leader) -> Self {
        Self { publish, leader }
    }

    /// Tells where the log stands that was just opened.
    pub(super) fn begin(&self, position: Position) {
        let cursor = position.cursor;
        self.publish.send_replace(position);
        self.leader.0.moved(cursor);
    }

    /// Tells where the log stands now. True if that has changed.
    pub(super) fn tell(&self, position: Position) -> bool {
        let cursor = position.cursor;
        let (mut changed, mut moved) = (false, false);
        self.publish.send_if_modified(|old| {
            changed = *old != position;
            moved = old.cursor != cursor;
            *old = position;
            // If none but the handles follow it, which only look, there is no task to wake, and to
            // search for one costs more than to publish. Asked under the lock, so a task that
            // begins to follow is either counted here or finds this position there.
            changed && self.publish.receiver_count() > 1
        });
        if moved {
            // After that, so that those who are woken find it there.
            self.leader.0.moved(cursor);
        }
        changed
    }
}
