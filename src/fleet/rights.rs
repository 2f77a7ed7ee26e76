//! What a user of the servers has to be allowed, and nothing else.

use std::fmt;

use serde::Serialize;

use crate::sink::nats::{Names, Spool};

/// The subjects that a user may publish to and subscribe to. Shown as the block `permissions` of a
/// server's configuration.
///
/// ```
/// use everpost::fleet::Rights;
/// use everpost::nats::Names;
///
/// let names = Names::new("EVENTS", 64)?;
/// let rights = Rights::device(&names, &"sensor-7".parse()?);
/// assert_eq!(
///     rights.publish,
///     ["events.15.sensor-7", "$JS.API.DIRECT.GET.EVENTS.events.15.sensor-7"]
/// );
/// assert_eq!(rights.subscribe, ["_INBOX_sensor-7.>"]);
/// # Ok::<(), everpost::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rights {
    /// Subjects to publish to.
    pub publish: Vec<String>,
    /// Subjects to subscribe to.
    pub subscribe: Vec<String>,
}

impl Rights {
    /// Of a device: to write to the subject of its spool, to look up the last message there, and to
    /// get answers under an inbox of its own. It can neither read nor change what other devices wrote.
    #[must_use]
    pub fn device(names: &Names, spool: &Spool) -> Self {
        let subject = names.event_subject(spool);
        let place = format!("$JS.API.DIRECT.GET.{}.{subject}", names.stream());
        Self {
            publish: vec![subject, place],
            subscribe: vec![format!("_INBOX_{spool}.>")],
        }
    }

    /// Of a worker: to read events, to keep the records of partitions, to put dead letters aside, and
    /// to remove what is delivered.
    #[must_use]
    pub fn worker(names: &Names) -> Self {
        let (events, cursors, dead) = (names.stream(), names.cursor_stream(), names.dead_stream());
        let mut publish: Vec<String> = [events, &cursors, &dead]
            .into_iter()
            .flat_map(reading)
            .collect();
        publish.push(format!("$JS.API.STREAM.PURGE.{events}"));
        publish.push(names.cursor_subjects());
        publish.push(names.dead_subjects());
        // Where workers hear of each other.
        let others = format!("{}_workers", names.stream().to_ascii_lowercase());
        publish.push(others.clone());
        Self {
            publish,
            subscribe: vec!["_INBOX.>".to_owned(), event_subjects(names), others],
        }
    }

    /// Of what looks and changes nothing, such as a relay that shows the books: to ask the three streams what they
    /// count, and to read events and the records of partitions.
    #[must_use]
    pub fn viewer(names: &Names) -> Self {
        let (events, cursors, dead) = (names.stream(), names.cursor_stream(), names.dead_stream());
        let info = |stream: &str| format!("$JS.API.STREAM.INFO.{stream}");
        let read = |stream: &str| format!("$JS.API.DIRECT.GET.{stream}");
        Self {
            publish: vec![info(events), read(events), read(&cursors), info(&dead)],
            subscribe: vec!["_INBOX.>".to_owned()],
        }
    }

    /// Of the person who sets a fleet up and works on it: to make, change and purge its three streams,
    /// to read them, to send dead letters again and to discard them.
    #[must_use]
    pub fn operator(names: &Names) -> Self {
        let streams = [
            names.stream().to_owned(),
            names.cursor_stream(),
            names.dead_stream(),
        ];
        let mut publish = vec!["$JS.API.INFO".to_owned()];
        for stream in &streams {
            publish.extend(reading(stream));
            for verb in ["CREATE", "UPDATE", "PURGE", "DELETE", "MSG.DELETE"] {
                publish.push(format!("$JS.API.STREAM.{verb}.{stream}"));
            }
        }
        publish.push(names.cursor_subjects());
        publish.push(event_subjects(names));
        Self {
            publish,
            subscribe: vec!["_INBOX.>".to_owned()],
        }
    }
}

/// The subjects of all events, also those in partitions that there are not.
fn event_subjects(names: &Names) -> String {
    format!("{}.>", names.stream().to_ascii_lowercase())
}

/// What reading a stream takes.
fn reading(stream: &str) -> [String; 4] {
    [
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.STREAM.MSG.GET.{stream}"),
        format!("$JS.API.DIRECT.GET.{stream}"),
        format!("$JS.API.DIRECT.GET.{stream}.>"),
    ]
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |subjects: &[String]| {
            let quoted: Vec<String> = subjects.iter().map(|one| format!("\"{one}\"")).collect();
            quoted.join(", ")
        };
        write!(
            f,
            "permissions: {{ publish: {{ allow: [{}] }}, subscribe: {{ allow: [{}] }} }}",
            list(&self.publish),
            list(&self.subscribe)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_allowed_its_own_subject_alone() {
        let names = Names::new("EVENTS", 64).unwrap();
        let rights = Rights::device(&names, &"sensor-7".parse().unwrap());
        let all = format!("{rights}");
        assert!(!all.contains('*') && all.matches('>').count() == 1, "{all}");
        let worker = Rights::worker(&names);
        assert!(
            !worker
                .publish
                .iter()
                .any(|subject| subject.contains("UPDATE"))
        );
        assert!(!worker.publish.contains(&event_subjects(&names)));
        // What only looks may publish to nothing but questions.
        let mut asked = Rights::viewer(&names).publish.into_iter();
        assert!(asked.all(|one| one.contains(".INFO.") || one.contains(".GET.")));
    }
}
