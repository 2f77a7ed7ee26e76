//! How the events of a batch stand in the body of a request.
//!
//! Where a form takes events as they are, their bytes are placed unchanged. The forms for logs make
//! something else of an event; what stands where is said in `docs/receivers.md`.

mod any;
mod cloud_events;
mod framed;
mod loki;
mod otlp;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Batch;
use crate::error::Error;

pub(crate) use self::framed::Pieces;

/// The body of a request: how its events stand in it.
///
/// As data, it is its name, or its name with its settings:
/// `"lines"`, `{"loki":{"labels":{"job":"door"}}}`.
///
/// ```
/// use everpost::http::Format;
///
/// assert_eq!("lines".parse::<Format>()?, Format::Lines);
/// assert!("otlp".parse::<Format>().is_ok());
/// # Ok::<(), everpost::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Format {
    /// `[<event>,<event>]`, `application/json`. Events to the byte.
    #[default]
    Array,
    /// One event in a line, each line with its end, `application/x-ndjson`. Line breaks that stand
    /// between the parts of an event become blanks; nothing else changes.
    Lines,
    /// One event is the body, to the byte, `application/json`; so a request carries one event.
    Single,
    /// `{"<list>":[<event>,<event>]}`, or with `item` `{"<list>":[{"<item>":<event>}]}`,
    /// `application/json`. Events to the byte.
    Wrapped {
        /// The name of the list.
        list: String,
        /// The name of each event within an object of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<String>,
    },
    /// A batch of structured CloudEvents 1.0, `application/cloudevents-batch+json`: `id` is the id
    /// of the event, `time` its time, `data` its bytes unchanged.
    CloudEvents {
        /// Where the events come from, a URI reference such as `/doors/17`.
        source: String,
        /// What kind they are, such as `com.example.opened`.
        #[serde(rename = "type")]
        kind: String,
    },
    /// An OTLP/HTTP request for logs in JSON, `application/json`. What
    /// the tracing layer (feature `layer`) wrote becomes a log record with its severity, its message and its
    /// fields; of any other event, the JSON becomes the body of the record.
    Otlp {
        /// Attributes of the resource, such as `service.name`.
        #[serde(default)]
        resource: BTreeMap<String, String>,
    },
    /// A push request for Loki in JSON, `application/json`: one stream, each event a line of it.
    Loki {
        /// The labels of the stream; at least one.
        labels: BTreeMap<String, String>,
    },
}

impl Format {
    /// The wrapper that the Botanalytics API documents: `{"messages":[{"message":<event>}]}`.
    #[must_use]
    pub fn messages() -> Self {
        Self::Wrapped {
            list: "messages".to_owned(),
            item: Some("message".to_owned()),
        }
    }

    /// Whether its settings can be used.
    ///
    /// # Errors
    /// [`Error::Sink`] with the setting that cannot.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Sink { reason });
        match self {
            Self::Array | Self::Lines | Self::Single | Self::Otlp { .. } => Ok(()),
            Self::Wrapped { list, item } => {
                if list.is_empty() || item.as_ref().is_some_and(String::is_empty) {
                    return wrong("name in the form `wrapped` is empty; give `list` a name".into());
                }
                Ok(())
            }
            Self::CloudEvents { source, kind } => {
                for (name, value) in [("source", source), ("type", kind)] {
                    if value.trim().is_empty() {
                        return wrong(format!(
                            "CloudEvents need a source and a type. setting=`{name}`"
                        ));
                    }
                }
                Ok(())
            }
            Self::Loki { labels } => loki::check(labels),
        }
    }

    /// The body of a request with this batch.
    pub(crate) fn body(&self, batch: &Batch) -> Vec<u8> {
        match self {
            Self::Array => Pieces::array().body(batch),
            Self::Lines => Pieces::lines().body(batch),
            Self::Single => Pieces::default().body(batch),
            Self::Wrapped { list, item } => Pieces::wrapped(list, item.as_deref()).body(batch),
            Self::CloudEvents { source, kind } => cloud_events::body(source, kind, batch),
            Self::Otlp { resource } => otlp::body(resource, batch),
            Self::Loki { labels } => loki::body(labels, batch),
        }
    }

    /// Its media type.
    pub(crate) fn content_type(&self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::CloudEvents { .. } => "application/cloudevents-batch+json",
            _ => "application/json",
        }
    }

    /// The most events that a request can carry, if that is bounded.
    pub(crate) fn events_max(&self) -> Option<NonZeroUsize> {
        matches!(self, Self::Single).then_some(NonZeroUsize::MIN)
    }
}

/// The forms by name; those with settings have `messages` and `message`, the source `everpost` and
/// the type `everpost.event`, no resource, and the label `job="everpost"`.
impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "array" => Self::Array,
            "lines" => Self::Lines,
            "single" => Self::Single,
            "wrapped" => Self::messages(),
            "cloud_events" | "cloudevents" => Self::CloudEvents {
                source: "everpost".to_owned(),
                kind: "everpost.event".to_owned(),
            },
            "otlp" => Self::Otlp {
                resource: BTreeMap::new(),
            },
            "loki" => Self::Loki {
                labels: [("job".to_owned(), "everpost".to_owned())].into(),
            },
            _ => {
                return Err(Error::Sink {
                    reason: "form of the body is not known; there are array, lines, single, \
                             wrapped, cloud_events, otlp and loki"
                        .to_owned(),
                });
            }
        })
    }
}

/// Writes a text as JSON.
fn quoted(text: &str, out: &mut Vec<u8>) {
    // Writing a text to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Writes a map of texts as a JSON object.
fn object(map: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, map);
}

#[cfg(test)]
mod tests;
