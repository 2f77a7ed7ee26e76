//! One layer of settings: what one file, the variables or the command line say.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use everpost::Settings;
use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::names::{self, Name, TABLES};
use super::{NAMES, Outer, SERVICE, Said, put};
use crate::fault::Fault;
use crate::text::cut;

/// Who said something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file of the system.
    Etc(PathBuf),
    /// The file in the spool.
    Spool(PathBuf),
    /// The file of `--settings`.
    Named(PathBuf),
    /// The file that this variable names.
    Variable(&'static str, PathBuf),
    /// A variable or an argument.
    Word(&'static str),
}

/// Where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) origin: Origin,
    /// The line of the file, from 1.
    pub(crate) line: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etc(path) | Self::Spool(path) | Self::Named(path) | Self::Variable(_, path) => {
                write!(f, "{}", path.display())
            }
            Self::Word(word) => f.write_str(word),
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}", self.origin),
            None => write!(f, "{}", self.origin),
        }
    }
}

/// What one origin says, every value checked alone.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    said: Vec<(&'static str, Said)>,
}

impl Layer {
    /// What the words of the command line, or variables, say.
    ///
    /// # Errors
    /// A fault that names the word and its value.
    pub(crate) fn of_words(
        words: impl IntoIterator<Item = (&'static str, &'static str, Value)>,
    ) -> Result<Self, Fault> {
        let mut said = Vec::new();
        for (word, path, value) in words {
            let Some(name) = names::find(path) else {
                continue;
            };
            let shown = value.to_string();
            check(name, &value).map_err(|what| {
                let text = format!("{word} cannot be {}: {what}", cut(&shown, 60));
                Fault::usage(text).hint(name.kind.hint())
            })?;
            // An argument is kept for later; a variable is for this process alone.
            if word.starts_with('-') {
                check_path(name, &value).map_err(|what| {
                    Fault::usage(format!("{word} cannot be {}: {what}", cut(&shown, 60)))
                        .hint(WHOLE_PATH)
                })?;
            }
            let origin = Origin::Word(word);
            let by = Spot { origin, line: None };
            said.push((name.path, Said { value, by }));
        }
        Ok(Self { said })
    }

    /// What a file says.
    ///
    /// # Errors
    /// A fault that names the file, the line, the column and the setting.
    pub(crate) fn parse(origin: Origin, text: &str) -> Result<Self, Fault> {
        let page = Page::new(origin, text);
        let (spans, values) = page.read()?;
        Self::of_table(&page, spans.get_ref(), &values)
    }

    /// What one table of a file says.
    pub(super) fn of_table(
        page: &Page<'_>,
        spans: &DeTable<'_>,
        values: &Table,
    ) -> Result<Self, Fault> {
        let mut said = Vec::new();
        for (key, value) in spans {
            let outer = key.get_ref().as_ref();
            let found = values.get(outer);
            if !TABLES.contains(&outer) {
                said.push(page.entry(outer, (key.span(), value), found)?);
                continue;
            }
            let DeValue::Table(inner) = value.get_ref() else {
                let text = format!("`{outer}` is the name of a table");
                let hint = format!("write [{outer}] on a line of its own, and its settings below");
                return Err(page.fault(&value.span(), text).hint(hint));
            };
            for (key, value) in inner {
                let found = found.and_then(|table| table.get(key.get_ref().as_ref()));
                let path = format!("{outer}.{}", key.get_ref());
                said.push(page.entry(&path, (key.span(), value), found)?);
            }
        }
        // In the order of the settings, not of the alphabet.
        said.sort_by_key(|(path, _)| NAMES.iter().position(|name| name.path == *path));
        Ok(Self { said })
    }

    /// The settings it says something about.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.said.iter().map(|(name, _)| *name)
    }

    pub(crate) fn into_said(self) -> Vec<(&'static str, Said)> {
        self.said
    }
}

/// A text with its origin: places in it have lines and columns.
pub(super) struct Page<'a> {
    origin: Origin,
    text: &'a str,
}

impl<'a> Page<'a> {
    pub(super) fn new(origin: Origin, text: &'a str) -> Self {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        Self { origin, text }
    }

    /// All of it, with the places and as values.
    pub(super) fn read(&self) -> Result<(Spanned<DeTable<'a>>, Table), Fault> {
        let broken = |error: toml::de::Error| {
            let what = error.message().to_owned();
            let at = error.span().unwrap_or(0..0);
            self.fault(&at, what)
                .hint("mend that line; a text stands in quotes, and a name once")
        };
        let spans = DeTable::parse(self.text).map_err(broken)?;
        let values: Table = toml::from_str(self.text).map_err(broken)?;
        Ok((spans, values))
    }

    fn entry(
        &self,
        path: &str,
        (key, value): (Range<usize>, &Spanned<DeValue<'_>>),
        found: Option<&Value>,
    ) -> Result<(&'static str, Said), Fault> {
        let (Some(name), Some(found)) = (names::find(path), found) else {
            let text = format!("there is no setting `{}`", cut(path, 60));
            let fault = self.fault(&key, text);
            return Err(match names::meant(path) {
                Some(meant) => fault.hint(meant),
                None => fault.hint("`everpost config` lists all settings"),
            });
        };
        check(name, found).map_err(|what| {
            let shown = self.text.get(value.span()).unwrap_or_default();
            let text = format!("`{}` cannot be {}: {what}", name.key(), cut(shown, 60));
            self.fault(&value.span(), text).hint(name.kind.hint())
        })?;
        check_path(name, found).map_err(|what| {
            let shown = self.text.get(value.span()).unwrap_or_default();
            let text = format!("`{}` cannot be {}: {what}", name.key(), cut(shown, 60));
            self.fault(&value.span(), text).hint(WHOLE_PATH)
        })?;
        let by = Spot {
            origin: self.origin.clone(),
            line: Some(self.place(key.start).0),
        };
        let value = found.clone();
        Ok((name.path, Said { value, by }))
    }

    pub(super) fn fault(&self, at: &Range<usize>, what: String) -> Fault {
        let (line, column) = self.place(at.start);
        Fault::usage(format!(
            "settings {}, line {line}, column {column}: {what}",
            self.origin
        ))
    }

    /// Line and column of a byte, from 1; columns count characters.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(begin..).unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// What to type instead of a relative path.
const WHOLE_PATH: &str = "write the whole path, such as \"/etc/everpost/key\"";

/// Whether a path that is kept leads to the same file from everywhere: the directory that a service
/// starts in is not that of the person who wrote it.
fn check_path(name: &Name, value: &Value) -> Result<(), &'static str> {
    // The only setting that is a path.
    if name.path != "service.key_file" {
        return Ok(());
    }
    match value.as_str() {
        Some(path) if !Path::new(path).is_absolute() => Err("it must be an absolute path"),
        _ => Ok(()),
    }
}

/// Whether the value is one of this setting; ranges are checked together, later.
fn check(name: &Name, value: &Value) -> Result<(), String> {
    let mut table = Table::new();
    put(&mut table, name.path, value.clone());
    let checked = if name.path.starts_with(SERVICE) {
        Outer::deserialize(table).map(drop)
    } else {
        Settings::deserialize(table).map(drop)
    };
    checked.map_err(|error| {
        // What follows is said by the hint.
        let text = error.message();
        text.split("; write ").next().unwrap_or(text).to_owned()
    })
}
