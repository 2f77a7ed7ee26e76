//! Tickets: a browser downloads a file by its path alone, which must not hold the token.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::access::Caller;
use super::filter::Filter;

/// Tickets that are kept; the oldest go.
const TICKETS_MAX: usize = 16;

/// How long one is good for.
const TICKET_TIME: Duration = Duration::from_secs(60);

/// What a ticket lets its bearer have, once.
#[derive(Debug)]
pub(super) struct Ticket {
    number: Uuid,
    until: Instant,
    channel: String,
    pub(super) filter: Filter,
    pub(super) caller: Caller,
}

/// The tickets that were given out.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<VecDeque<Ticket>>);

impl Tickets {
    /// A new ticket for the letters of a channel that this filter lets through.
    pub(super) fn give(&self, channel: &str, filter: Filter, caller: Caller) -> Uuid {
        let number = Uuid::from_bytes(rand::rngs::OsRng.r#gen());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == TICKETS_MAX {
            kept.pop_front();
        }
        kept.push_back(Ticket {
            number,
            until: Instant::now() + TICKET_TIME,
            channel: channel.to_owned(),
            filter,
            caller,
        });
        number
    }

    /// Takes a ticket back, if it is one for this channel and good still.
    pub(super) fn take(&self, number: Uuid, channel: &str) -> Option<Ticket> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.retain(|ticket| ticket.until > now);
        let at = kept
            .iter()
            .position(|ticket| ticket.number == number && ticket.channel == channel)?;
        kept.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_for_its_channel_and_for_a_minute() {
        let tickets = Tickets::default();
        let give = || tickets.give("a", Filter::default(), Caller::on_the_socket());
        let first = give();
        assert!(tickets.take(first, "b").is_none());
        assert!(tickets.take(first, "a").is_some());
        assert!(tickets.take(first, "a").is_none(), "twice");
        let late = give();
        tokio::time::advance(TICKET_TIME).await;
        assert!(tickets.take(late, "a").is_none(), "too late");
        let oldest = give();
        for _ in 0..TICKETS_MAX {
            give();
        }
        assert!(tickets.take(oldest, "a").is_none(), "too many");
    }
}
