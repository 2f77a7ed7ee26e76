//! `pace`: how fast a running owner may deliver.

use std::time::UNIX_EPOCH;

use everpost::clock::{Clock as _, SystemClock};
use everpost::{Delivery, Pace, PaceStatus, Settings};
use serde::Serialize;
use toml::{Table, Value};

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::incidents;
use crate::out::Out;
use crate::overrides::size;
use crate::owner::{Way, is_gone};
use crate::target::must_exist;
use crate::view;

/// How fast.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Events that go out in a second at the most, or `off`.
    #[arg(long, value_name = "N|off", value_parser = events)]
    rate_events: Option<Wish<u32>>,

    /// Bytes of event JSON that go out in a second at the most, such as `64KiB`, or `off`.
    #[arg(long, value_name = "SIZE|off", value_parser = bytes)]
    rate_bytes: Option<Wish<u64>>,
}

/// A rate that was typed, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish<N>(Option<N>);

fn events(text: &str) -> Result<Wish<u32>, String> {
    let value = text.parse().map(Value::Integer);
    let value = value.unwrap_or_else(|_| Value::String(text.to_owned()));
    let delivery = delivery(text, "rate_events", value)?;
    Ok(Wish(delivery.and_then(|delivery| delivery.rate_events)))
}

fn bytes(text: &str) -> Result<Wish<u64>, String> {
    let delivery = delivery(text, "rate_bytes", size(text.to_owned()))?;
    Ok(Wish(delivery.and_then(|delivery| delivery.rate_bytes)))
}

/// The settings that say the same; none if there is to be no rate.
fn delivery(text: &str, name: &str, value: Value) -> Result<Option<Delivery>, String> {
    if text == "off" {
        return Ok(None);
    }
    let rate = Table::from_iter([(name.to_owned(), value)]);
    let all = Table::from_iter([("delivery".to_owned(), Value::Table(rate))]);
    let settings: Settings = all
        .try_into()
        .map_err(|error: toml::de::Error| format!("{}; or write `off`", error.message()))?;
    settings.check().map_err(|error| error.to_string())?;
    Ok(Some(settings.delivery))
}

/// What is in effect.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    pace: &'a PaceStatus,
    /// Whether an owner answered; otherwise it is what the next one begins with.
    live: bool,
}

pub(crate) async fn pace(cli: &Cli, args: &Args, out: Out) -> Result<(), Fault> {
    let way = Way::of(cli)?;
    if let Some(spool) = way.spool() {
        must_exist(spool).await?;
    }
    let client = way.client();
    let asked = async {
        let status = client.status().await?;
        incidents::tell(&status.incidents);
        let wanted = args.wanted(status.pace.pace());
        if wanted == status.pace.pace() {
            return Ok(status);
        }
        client.set_pace(wanted).await?;
        client.status().await
    };
    match asked.await {
        Ok(status) => {
            let (pace, live) = (&status.pace, true);
            out.show(&Shown { pace, live }, || {
                let now = SystemClock.wall();
                let held = view::pace(pace, now);
                held.unwrap_or_else(|| UNBOUNDED.to_owned()) + "\n"
            })
        }
        Err(error) if is_gone(&error) && args.is_look() => without_owner(cli, out),
        Err(error) if is_gone(&error) => Err(Fault::usage(
            "a pace is set on an owner that runs, and none answers",
        )
        .hint(
            "start `everpost run` first; what every owner begins with is `rate_events` and \
             `rate_bytes` under [delivery] in settings.toml in the spool",
        )),
        Err(error) => Err(error.into()),
    }
}

const UNBOUNDED: &str = "as fast as the receiver answers";

/// What the settings say.
fn without_owner(cli: &Cli, out: Out) -> Result<(), Fault> {
    let settings = environment::settings(cli)?;
    let mut pace = PaceStatus::default();
    pace.rate_events = settings.delivery.rate_events;
    pace.rate_bytes = settings.delivery.rate_bytes;
    let (pace, live) = (&pace, false);
    out.show(&Shown { pace, live }, || {
        let held = view::pace(pace, UNIX_EPOCH);
        let held = held.unwrap_or_else(|| UNBOUNDED.to_owned());
        format!("no owner answers; the next one begins with: {held}\n")
    })
}

impl Args {
    fn is_look(&self) -> bool {
        self.rate_events.is_none() && self.rate_bytes.is_none()
    }

    /// The present pace with what was typed.
    fn wanted(&self, present: Pace) -> Pace {
        Pace {
            rate_events: self.rate_events.map_or(present.rate_events, |wish| wish.0),
            rate_bytes: self.rate_bytes.map_or(present.rate_bytes, |wish| wish.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_typed_as_its_setting_or_off() {
        let events = |text: &str| events(text).map(|wish| wish.0);
        let bytes = |text: &str| bytes(text).map(|wish| wish.0);
        assert_eq!((events("off"), events("7")), (Ok(None), Ok(Some(7))));
        assert_eq!((bytes("off"), bytes("7")), (Ok(None), Ok(Some(7))));
        assert_eq!(bytes("64KiB"), Ok(Some(65_536)));
        for text in ["0", "-1", "x", "1.5", "99999999999999999999"] {
            assert!(events(text).is_err(), "{text}");
        }
        for text in ["0", "0B", "x", "64XB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(events("0").unwrap_err().contains("`rate_events` is 0"));
        assert!(bytes("x").unwrap_err().contains("or write `off`"));
    }

    #[test]
    fn what_is_not_typed_stays() {
        let present = Pace {
            rate_events: Some(5),
            rate_bytes: Some(6),
        };
        let args = |events, bytes| Args {
            rate_events: events,
            rate_bytes: bytes,
        };
        assert_eq!(args(None, None).wanted(present), present);
        let wanted = args(Some(Wish(None)), None).wanted(present);
        assert_eq!((wanted.rate_events, wanted.rate_bytes), (None, Some(6)));
        let wanted = args(None, Some(Wish(Some(9)))).wanted(present);
        assert_eq!((wanted.rate_events, wanted.rate_bytes), (Some(5), Some(9)));
    }
}
