//! What is logged to standard error, and how it looks there.
//!
//! That a line cannot be written changes nothing: a full disk, a pipe without a reader or a closed
//! descriptor behind standard error ends no command, and no part of one. Nor does a pipe that is
//! never read hold a service up: see [`scribe`].

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::SystemTime;

use clap::Args;
use everpost::clock::{Clock as _, SystemClock};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::out::remark;
use crate::overrides::Word;
use crate::screen;
use crate::scribe;
use crate::settings::LogFormat;
use crate::text::{plain, time};

/// The variable with the level.
const LEVEL: &str = "EVERPOST_LOG";

/// What is said of the log on the command line.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct LogArgs {
    /// The form of the lines on standard error: for people, or one JSON object a line with `time`,
    /// `level`, `message` and `fields`. Otherwise as EVERPOST_LOG_FORMAT or the settings say, or
    /// `text`.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

impl LogArgs {
    /// What was typed, as a setting.
    pub(crate) fn word(&self) -> Option<Word> {
        let name = match self.log_format? {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        Some(("--log-format", "service.log_format", name.into()))
    }
}

/// The look that was chosen for this process.
static CHOSEN: OnceLock<Look> = OnceLock::new();

/// Logs from here on, from this level on unless `EVERPOST_LOG` names another, in this form or as
/// text.
pub(crate) fn begin(level: LevelFilter, format: Option<LogFormat>) {
    let format = format.unwrap_or(LogFormat::Text);
    // Chosen once; there is only one call in a process.
    let look = *CHOSEN.get_or_init(|| Look {
        format,
        journal: is_journal(),
    });
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(named_level().unwrap_or(level))
        .with_writer(|| screen::Log)
        .with_ansi(false)
        // It would be told on standard error, and panic where that is what failed.
        .log_internal_errors(false)
        .event_format(look)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn named_level() -> Option<LevelFilter> {
    let named = std::env::var_os(LEVEL).filter(|named| !named.is_empty())?;
    let level = named.to_str().and_then(|named| match named.trim() {
        // Numbers would do for the parser, and say nothing to people.
        number if number.parse::<u8>().is_ok() => None,
        name => name.parse().ok(),
    });
    if level.is_none() {
        let named = plain(&named.to_string_lossy());
        remark(&format!(
            "everpost: {LEVEL} is `{named}`, which is no level; it may be off, error, warn, info, \
             debug or trace, and counts as not set"
        ));
    }
    level
}

/// As [`begin`], for a service: a thread that logs or remarks something does not wait until it is
/// written, since standard error may be a pipe whose other end is open and never read.
pub(crate) fn begin_for_a_service(level: LevelFilter, format: Option<LogFormat>) {
    begin(level, format);
    scribe::begin(|text| {
        let line = CHOSEN.get().map(|look| look.warning(text));
        line.unwrap_or_else(|| text.to_owned()) + "\n"
    });
}

/// A line that is not logged, in the form that was chosen, if that is not text.
pub(crate) fn dressed(text: &str) -> Option<String> {
    let look = CHOSEN.get()?;
    (look.format == LogFormat::Json).then(|| look.warning(text))
}

/// Whether standard error is a stream of the journal, which notes the time and the level itself:
/// `systemd.exec(5)` names device and inode of the stream, since a child may have another one.
#[cfg(unix)]
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let found = rustix::fs::fstat(io::stderr());
    found.is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

#[cfg(not(unix))]
fn is_journal() -> bool {
    false
}

/// How an event of the log becomes a line.
#[derive(Clone, Copy, Debug)]
struct Look {
    format: LogFormat,
    journal: bool,
}

impl Look {
    /// A line that no part of the program logged.
    fn warning(self, text: &str) -> String {
        let said = Said {
            message: text.to_owned(),
            ..Said::default()
        };
        self.line(SystemClock.wall(), Level::WARN, &said)
    }

    fn line(&self, now: SystemTime, level: Level, said: &Said) -> String {
        match (self.format, self.journal) {
            (LogFormat::Json, _) => said.as_json(now, level),
            (LogFormat::Text, false) => format!("{} {level:>5} {}", time(now), said.as_text()),
            (LogFormat::Text, true) => format!("<{}>{}", priority(level), said.as_text()),
        }
    }
}

/// As `sd-daemon(3)` numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl<S, N> FormatEvent<S, N> for Look
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let level = *event.metadata().level();
        writeln!(writer, "{}", self.line(SystemClock.wall(), level, &said))
    }
}

/// What an event of the log says.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// Each for programs, and for people.
    fields: Vec<(&'static str, Value, String)>,
}

/// A line for programs.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    message: &'a str,
    fields: Map<String, Value>,
}

impl Said {
    fn as_json(&self, now: SystemTime, level: Level) -> String {
        let fields: Map<String, Value> = self
            .fields
            .iter()
            .map(|(name, value, _)| ((*name).to_owned(), value.clone()))
            .collect();
        let line = Line {
            time: time(now),
            level: level.as_str(),
            message: &self.message,
            fields,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Some of it may come from outside, so a terminal is given nothing that it would obey.
    fn as_text(&self) -> String {
        let mut text = self.message.clone();
        for (name, _, shown) in &self.fields {
            text.push_str(&format!(" {name}={shown}"));
        }
        plain(&text)
    }

    fn add(&mut self, field: &Field, value: Value, shown: String) {
        self.fields.push((field.name(), value, shown));
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let shown = format!("{value:?}");
        if field.name() == "message" {
            self.message = shown;
        } else {
            self.add(field, Value::from(shown.clone()), shown);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, Value::from(value), format!("{value:?}"));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value), value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value), value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::from(value), value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value), value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said() -> Said {
        Said {
            message: "delivery fails\u{202E}".to_owned(),
            fields: vec![
                ("status", Value::from(503), "503".to_owned()),
                ("detail", Value::from("a\nb"), format!("{:?}", "a\nb")),
            ],
        }
    }

    #[test]
    fn a_line_is_for_people_for_the_journal_or_for_programs() {
        let now = SystemTime::UNIX_EPOCH;
        let look = |format, journal| Look { format, journal }.line(now, Level::WARN, &said());
        assert_eq!(
            look(LogFormat::Text, false),
            "1970-01-01T00:00:00.000Z  WARN delivery fails\\u202e status=503 detail=\"a\\nb\""
        );
        assert_eq!(
            look(LogFormat::Text, true),
            "<4>delivery fails\\u202e status=503 detail=\"a\\nb\""
        );
        let json: Value = serde_json::from_str(&look(LogFormat::Json, true)).unwrap();
        let expected = json!({
            "time": "1970-01-01T00:00:00.000Z",
            "level": "WARN",
            "message": "delivery fails\u{202E}",
            "fields": {"status": 503, "detail": "a\nb"},
        });
        assert_eq!(json, expected);
    }
}
