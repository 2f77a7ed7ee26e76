//! `config`: every setting in effect, and who said so.

use std::collections::BTreeMap;

use everpost::{botanalytics, inspect};
use serde::Serialize;
use serde_json::Value;

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::out::Out;
use crate::place::Place;
use crate::service::DEADLINE;
use crate::settings::{Effective, NAMES, Origin};
use crate::text::plain;

/// How long a request may take if no layer says anything: as the sink has it.
const REQUEST_TIMEOUT: &str = "30s";

pub(crate) fn config(cli: &Cli, out: Out) -> Result<(), Fault> {
    let place = Place::of(cli).ok();
    let effective = environment::effective(cli, true)?;
    let report = Report {
        spool: place.map(|place| Spool {
            exists: inspect::exists(&place.path).unwrap_or(false),
            path: place.path.display().to_string(),
            by: place.by,
        }),
        key: Key::of(&effective),
        settings: entries(&effective),
    };
    out.show(&report, || report.for_people())
}

#[derive(Serialize)]
struct Report {
    /// None if no spool is named and there is no home directory.
    spool: Option<Spool>,
    key: Key,
    /// By name; those of a table as `table.key`.
    settings: BTreeMap<&'static str, Entry>,
}

#[derive(Serialize)]
struct Spool {
    path: String,
    by: &'static str,
    exists: bool,
}

/// Where the key comes from; never the key.
#[derive(Serialize)]
struct Key {
    /// `variable`, `file` or `none`.
    kind: &'static str,
    /// The variable, or the file.
    source: Option<String>,
    by: Option<String>,
}

/// A setting in effect.
#[derive(Serialize)]
struct Entry {
    /// Sizes in bytes, times as text; null if there is none.
    value: Value,
    /// `default`, `scaled` to a small `max_bytes`, `system`, `spool`, `file`, `environment` or
    /// `argument`.
    from: &'static str,
    /// The file, the variable or the argument.
    by: Option<String>,
    line: Option<usize>,
}

impl Key {
    fn of(effective: &Effective) -> Self {
        if environment::is_key_in_variable(effective) {
            return Self {
                kind: "variable",
                source: Some("BA_API_KEY".to_owned()),
                by: None,
            };
        }
        match &effective.service().key_file {
            Some(path) => Self {
                kind: "file",
                source: Some(path.display().to_string()),
                by: effective
                    .said("service.key_file")
                    .map(|said| said.by.to_string()),
            },
            None => Self {
                kind: "none",
                source: None,
                by: None,
            },
        }
    }

    fn for_people(&self) -> String {
        match (&self.source, &self.by) {
            (None, _) => "none; set BA_API_KEY_FILE, or key_file under [service]".to_owned(),
            (Some(source), None) => format!("from {source}"),
            (Some(source), Some(by)) => format!("from the file {source} ({by})"),
        }
    }
}

fn entries(effective: &Effective) -> BTreeMap<&'static str, Entry> {
    let values = effective.values();
    let defaults = Effective::plain().values();
    let mut entries = BTreeMap::new();
    for name in NAMES {
        let said = effective.said(name.path);
        let own = values.get(name.path).unwrap_or(&Value::Null);
        let is_scaled = defaults.get(name.path) != Some(own);
        let value = match own {
            Value::Null => unsaid(name.path).unwrap_or(Value::Null),
            own => own.clone(),
        };
        let from = match said.map(|said| &said.by.origin) {
            Some(Origin::Etc(_)) => "system",
            Some(Origin::Spool(_)) => "spool",
            Some(Origin::Named(_) | Origin::Variable(..)) => "file",
            Some(Origin::Word(word)) if word.starts_with('-') => "argument",
            Some(Origin::Word(_)) => "environment",
            None if is_scaled => "scaled",
            None => "default",
        };
        let entry = Entry {
            value,
            from,
            by: said.map(|said| said.by.origin.to_string()),
            line: said.and_then(|said| said.by.line),
        };
        entries.insert(name.path, entry);
    }
    entries
}

/// What counts for the command where no layer says anything.
fn unsaid(path: &str) -> Option<Value> {
    Some(match path {
        "service.base_url" => Value::from(botanalytics::BASE_URL),
        "service.request_timeout" => Value::from(REQUEST_TIMEOUT),
        "service.log_format" => Value::from("text"),
        "service.deadline" => Value::from(humantime::format_duration(DEADLINE).to_string()),
        _ => return None,
    })
}

impl Report {
    fn for_people(&self) -> String {
        let mut rows = Vec::new();
        let spool = match &self.spool {
            Some(spool) => {
                let missing = if spool.exists {
                    ""
                } else {
                    "; there is none yet"
                };
                (format!("{}{missing}", spool.path), spool.by.to_owned())
            }
            None => ("none; add --spool DIR".to_owned(), String::new()),
        };
        rows.push(("spool", spool.0, spool.1));
        rows.push(("key", self.key.for_people(), String::new()));
        let mut table = "";
        for name in NAMES {
            let Some(entry) = self.settings.get(name.path) else {
                continue;
            };
            if let Some((outer, _)) = name.path.split_once('.')
                && outer != table
            {
                table = outer;
                rows.push((outer, String::new(), String::new()));
            }
            rows.push((name.key(), name.kind.shown(&entry.value), entry.origin()));
        }
        let widest = |column: &dyn Fn(&(&str, String, String)) -> usize| {
            rows.iter().map(column).max().unwrap_or_default()
        };
        let names = widest(&|row| row.0.len());
        // A long path must not push every origin out of sight.
        let values = widest(&|row| if row.1.len() > 40 { 0 } else { row.1.len() });
        let mut text = String::new();
        for (name, value, by) in &rows {
            if value.is_empty() && by.is_empty() {
                text.push_str(&format!("\n[{name}]\n"));
                continue;
            }
            let (value, by) = (plain(value), plain(by));
            let line = format!("{name:names$}  {value:values$}  {by}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

impl Entry {
    fn origin(&self) -> String {
        match (&self.by, self.line) {
            (Some(by), Some(line)) => format!("{by}, line {line}"),
            (Some(by), None) => by.clone(),
            (None, _) if self.from == "scaled" => "follows max_bytes".to_owned(),
            (None, _) => "default".to_owned(),
        }
    }
}
