//! How often one client may ask.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::serving::Peer;
use crate::sink::botanalytics::Key;

/// Clients whose requests are counted one by one. Beyond that, several are counted as one.
const CLIENTS_MAX: usize = 10_000;

/// As how many all clients beyond those count.
const GROUPS: u64 = 1_024;

/// The longest wait that is asked for: the official Node client gives up at one of 30 s.
const WAIT_MAX: Duration = Duration::from_secs(29);

/// How often one client may ask: so many requests a second for ever, and so many at once after a
/// silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// So many requests a second, and as many as `burst` at once.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { per_second, burst }
    }

    /// So many requests a second, and twice as many at once.
    #[must_use]
    pub fn per_second(per_second: NonZeroU32) -> Self {
        Self::new(per_second, per_second.saturating_add(per_second.get()))
    }

    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// The rates of all kinds of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rates {
    /// Of those who hold a key, or a token that is a secret. None: as often as they like.
    pub(super) usual: Option<Rate>,
    /// Of those whose token is published, as in a web page, so that anyone may have it.
    pub(super) published: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        let (per_second, burst) = (
            NonZeroU32::MIN.saturating_add(9),
            NonZeroU32::MIN.saturating_add(49),
        );
        Self {
            usual: None,
            published: Rate::new(per_second, burst),
        }
    }
}

/// Counts requests.
#[derive(Debug)]
pub(super) struct Limits {
    rates: Rates,
    usual: Option<Limiter<DefaultClock>>,
    published: Limiter<DefaultClock>,
    /// Keys are remembered by this hash alone, which is another one in every process.
    hasher: RandomState,
}

impl Limits {
    pub(super) fn new(rates: Rates) -> Self {
        let limiter = |rate| Limiter::new(rate, DefaultClock::default());
        Self {
            rates,
            usual: rates.usual.map(limiter),
            published: limiter(rates.published),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn rates(&self) -> Rates {
        self.rates
    }

    /// Counts a request that was let in by this key; `is_published` if
    /// it is one that anyone may have. Refused, it is to come again after this time, in whole seconds.
    pub(super) fn count(
        &self,
        is_published: bool,
        key: &Key,
        peer: Option<Peer>,
    ) -> Result<(), Duration> {
        let limiter = match &self.usual {
            _ if is_published => &self.published,
            Some(usual) => usual,
            None => return Ok(()),
        };
        let peer = peer.map(Peer::household);
        limiter.count(self.hasher.hash_one((key.expose(), peer)))
    }
}

/// Who asks, by a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    One(u64),
    /// One of many.
    Group(u64),
}

type Store = HashMapStateStore<Client>;

#[derive(Debug)]
struct Limiter<C: Clock> {
    counts: RateLimiter<Client, Store, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<C: Clock + Clone> Limiter<C> {
    fn new(rate: Rate, clock: C) -> Self {
        Self {
            counts: RateLimiter::hashmap_with_clock(rate.quota(), clock.clone()),
            clock,
        }
    }

    fn count(&self, client: u64) -> Result<(), Duration> {
        let client = self.client(client);
        self.counts.check_key(&client).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Duration::from_secs(seconds).clamp(Duration::from_secs(1), WAIT_MAX)
        })
    }

    /// Forgets those who have not asked lately, if they have become too many.
    fn client(&self, client: u64) -> Client {
        if self.counts.len() >= CLIENTS_MAX {
            self.counts.retain_recent();
            self.counts.shrink_to_fit();
        }
        if self.counts.len() >= CLIENTS_MAX {
            return Client::Group(client % GROUPS);
        }
        Client::One(client)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        let number = |number| NonZeroU32::new(number).unwrap();
        Rate::new(number(per_second), number(burst))
    }

    #[test]
    fn a_client_that_asks_too_often_is_told_when_to_come_again_and_is_let_in_then() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::new(rate(2, 4), clock.clone());
        assert!((0..4).all(|_| limiter.count(7).is_ok()));
        assert_eq!(limiter.count(7), Err(Duration::from_secs(1)));
        assert_eq!(limiter.count(8), Ok(()), "another client");
        clock.advance(Duration::from_millis(500));
        assert_eq!(
            (limiter.count(7).is_ok(), limiter.count(7).is_ok()),
            (true, false)
        );
        clock.advance(Duration::from_secs(60));
        assert!(
            (0..4).all(|_| limiter.count(7).is_ok()),
            "no more than a burst"
        );
        assert!(limiter.count(7).is_err());
    }

    #[test]
    fn clients_are_forgotten_after_a_silence_and_a_flood_of_them_costs_bounded_memory() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::new(rate(1, 1), clock.clone());
        let refused = (0..100_000)
            .filter(|client| limiter.count(*client).is_err())
            .count();
        let bound = CLIENTS_MAX + usize::try_from(GROUPS).unwrap();
        assert!(limiter.counts.len() <= bound, "{}", limiter.counts.len());
        assert!(
            refused > 80_000,
            "those beyond the bound share their rates: {refused}"
        );
        clock.advance(Duration::from_secs(2));
        assert_eq!(limiter.count(200_000), Ok(()));
        assert_eq!(limiter.counts.len(), 1);
    }

    #[test]
    fn a_client_is_a_key_and_an_address_and_published_tokens_have_a_rate_of_their_own() {
        let usual = Some(rate(1, 1));
        let [a, b] =
            ["YQ", "Yg"].map(|end| Key::parse(format!("e30.eyJjaGFubmVsIjoiYyJ9.{end}")).unwrap());
        let limits = Limits::new(Rates {
            usual,
            published: rate(1, 2),
        });
        let ip = |last| Some(Peer::Ip(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))));
        assert!(limits.count(false, &a, ip(1)).is_ok());
        assert!(limits.count(false, &a, ip(1)).is_err());
        assert!(limits.count(false, &b, ip(1)).is_ok());
        assert!(limits.count(false, &a, ip(2)).is_ok());
        assert!(limits.count(false, &a, Some(Peer::Local)).is_ok());
        assert!(limits.count(true, &a, ip(1)).is_ok());
        assert!(limits.count(true, &a, ip(1)).is_ok());
        assert!(limits.count(true, &a, ip(1)).is_err());
        // All addresses of one network of version 6 are one.
        let ip = |text: &str| Some(Peer::Ip(text.parse::<Ipv6Addr>().unwrap().into()));
        assert!(limits.count(false, &a, ip("2001:db8::1")).is_ok());
        assert!(limits.count(false, &a, ip("2001:db8::2")).is_err());
        assert!(limits.count(false, &a, ip("2001:db8:0:1::1")).is_ok());
        // Without a limit it is never refused, and a published token is all the same.
        let limits = Limits::new(Rates::default());
        assert!((0..1_000).all(|_| limits.count(false, &a, None).is_ok()));
        let taken = (0..100)
            .filter(|_| limits.count(true, &a, None).is_ok())
            .count();
        assert!((50..60).contains(&taken), "{taken}");
    }
}
