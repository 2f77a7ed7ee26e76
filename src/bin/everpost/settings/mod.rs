//! Settings from their layers: which value is in effect, and who said so.
//!
//! Later layers win: the defaults, `/etc/everpost/settings.toml`, `settings.toml` in the spool, the
//! file of `--settings`, the variables `BA_*`, what was typed.

mod file;
mod layer;
mod names;
mod parts;
mod service;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use everpost::{Error, Settings};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::fault::Fault;

pub(crate) use self::file::{NAME, make_dir, may_write, take_back};
pub(crate) use self::layer::{Layer, Origin, Spot};
#[cfg(test)]
pub(crate) use self::names::Kind;
pub(crate) use self::names::{NAMES, TABLES, find};
pub(crate) use self::parts::Parts;
pub(crate) use self::service::{BOTANALYTICS, LogFormat, Service, To};
pub(crate) use self::write::Pen;

/// A value and who said so.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) value: Value,
    pub(crate) by: Spot,
}

/// All that the layers say, the last word on each setting.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    said: BTreeMap<&'static str, Said>,
    /// What the spool says and a later layer overrides.
    overridden: Vec<(&'static str, Said)>,
    settings: Settings,
    service: Service,
    /// Where the spool itself says that its events go.
    to: To,
}

impl Effective {
    /// Puts the layers together; later ones win.
    ///
    /// # Errors
    /// A fault that names each setting out of its range, and where it stands.
    pub(crate) fn of(layers: Vec<Layer>) -> Result<Self, Fault> {
        let mut said: BTreeMap<&'static str, Said> = BTreeMap::new();
        let mut overridden = Vec::new();
        let mut of_spool = BTreeMap::new();
        for (name, new) in layers.into_iter().flat_map(Layer::into_said) {
            if let Some(old) = said.get(name)
                && matches!(old.by.origin, Origin::Spool(_))
                && old.value != new.value
            {
                overridden.push((name, old.clone()));
            }
            if name == RECEIVER && matches!(new.by.origin, Origin::Spool(_)) {
                of_spool.insert(name, new.clone());
            }
            said.insert(name, new);
        }
        let settings: Settings = typed(&said, |name| !name.starts_with(SERVICE))?;
        if let Err(error) = settings.check() {
            return Err(placed(error, &said));
        }
        let service = typed::<Outer>(&said, |name| name.starts_with(SERVICE))?.service;
        let to = typed::<Outer>(&of_spool, |_| true)?.service.receiver;
        Ok(Self {
            to,
            said,
            overridden,
            settings: settings.in_effect(),
            service,
        })
    }

    /// What counts if no layer says anything.
    pub(crate) fn plain() -> Self {
        Self {
            said: BTreeMap::new(),
            overridden: Vec::new(),
            settings: Settings::default(),
            service: Service::default(),
            to: To::default(),
        }
    }

    /// Whether the value of a setting is another one there.
    pub(crate) fn differs(&self, other: &Self, name: &str) -> bool {
        if name == RECEIVER {
            // What is shown of it may be the same.
            return self.service.receiver != other.service.receiver;
        }
        self.values().get(name) != other.values().get(name)
    }

    /// Where the spool itself says that its events go, if that is elsewhere than they would go now.
    pub(crate) fn redirected(&self) -> Option<&To> {
        (!self.to.is_same_as(&self.service.receiver)).then_some(&self.to)
    }

    /// The settings of the queue, as it uses them.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings of the command itself.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// The value of every setting, by the path of its name, as JSON.
    pub(crate) fn values(&self) -> BTreeMap<String, serde_json::Value> {
        let mut values = BTreeMap::new();
        let of_queue = serde_json::to_value(&self.settings);
        let of_command = serde_json::to_value(&self.service);
        for (object, prefix) in [(of_queue, ""), (of_command, SERVICE)] {
            // Numbers, names and times always serialise, and to an object.
            let Ok(serde_json::Value::Object(object)) = object else {
                continue;
            };
            for (key, value) in object {
                match value {
                    serde_json::Value::Object(inner) if TABLES.contains(&&*key) => {
                        values.extend(inner.into_iter().map(|(k, v)| (format!("{key}.{k}"), v)));
                    }
                    value => drop(values.insert(format!("{prefix}{key}"), value)),
                }
            }
        }
        values
    }

    /// Who said something about this setting; none if it has its default.
    pub(crate) fn said(&self, name: &str) -> Option<&Said> {
        self.said.get(name)
    }

    /// One line on what the spool says and does not get; none if it gets everything. What concerns
    /// delivery alone is left out where nothing is delivered.
    pub(crate) fn overrides(&self, delivers: bool) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        for (name, old) in &self.overridden {
            let Some(now) = self.said.get(name) else {
                continue;
            };
            if now.value == old.value || (name.starts_with(SERVICE) && !delivers) {
                continue;
            }
            let name = name.strip_prefix(SERVICE).unwrap_or(name);
            let (new, old_value) = (&now.value, &old.value);
            let part = format!("{name} = {new} ({}), not {old_value}", now.by);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        let spool = self
            .overridden
            .first()
            .map(|(_, old)| old.by.origin.clone())?;
        let what = parts.join("; ");
        (!what.is_empty()).then(|| format!("not as {spool} says: {what}"))
    }
}

/// What the names of the command's own settings begin with.
pub(crate) const SERVICE: &str = "service.";

/// The name of the setting that says where events go.
const RECEIVER: &str = "service.receiver";

/// The table of the command in a settings file.
#[derive(serde::Deserialize)]
struct Outer {
    #[serde(default)]
    service: Service,
}

/// The values under these names, as one of ours. Each was checked alone when its layer was read.
fn typed<T: DeserializeOwned>(
    said: &BTreeMap<&'static str, Said>,
    wanted: impl Fn(&str) -> bool,
) -> Result<T, Fault> {
    let mut table = Table::new();
    for (name, said) in said.iter().filter(|(name, _)| wanted(name)) {
        put(&mut table, name, said.value.clone());
    }
    T::deserialize(table)
        .map_err(|error| Fault::usage(format!("settings are not usable: {}", error.message())))
}

/// Puts a value under a name, which may be `table.key`.
fn put(table: &mut Table, name: &str, value: Value) {
    match name.split_once('.') {
        None => drop(table.insert(name.to_owned(), value)),
        Some((outer, inner)) => {
            let entry = table.entry(outer.to_owned());
            let entry = entry.or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(entry) = entry {
                entry.insert(inner.to_owned(), value);
            }
        }
    }
}

/// The same fault, with the place of each setting it names.
fn placed(error: Error, said: &BTreeMap<&'static str, Said>) -> Fault {
    let Error::Settings { mut problems } = error else {
        return error.into();
    };
    for problem in &mut problems {
        // Each begins with the name of a setting.
        let Some(name) = problem.split('`').nth(1) else {
            continue;
        };
        let name = if name == "sync_every" {
            "durability"
        } else {
            name
        };
        let by = NAMES
            .iter()
            .find(|known| known.key() == name)
            .and_then(|known| said.get(known.path));
        if let Some(said) = by {
            problem.push_str(&format!(" ({})", said.by));
        }
    }
    Error::Settings { problems }.into()
}

/// The layers of a spool that are files: of the system, of the spool, and the one that is named.
///
/// # Errors
/// A fault that names the file and the place in it.
pub(crate) fn files(
    spool: Option<&Path>,
    named: Option<(&Path, bool)>,
) -> Result<Vec<Layer>, Fault> {
    let mut layers = Vec::new();
    let etc = file::etc();
    if let Some(text) = file::read_etc(&etc)? {
        layers.push(Layer::parse(Origin::Etc(etc), &text)?);
    }
    if let Some(spool) = spool {
        layers.extend(of_spool(spool)?);
    }
    layers.extend(named.map(of_file).transpose()?);
    Ok(layers)
}

/// What the file says that is named, by a variable or not.
pub(crate) fn of_file((path, by_variable): (&Path, bool)) -> Result<Layer, Fault> {
    let text = file::read_named(path)?;
    let path = path.to_owned();
    let origin = if by_variable {
        Origin::Variable("EVERPOST_SETTINGS", path)
    } else {
        Origin::Named(path)
    };
    Layer::parse(origin, &text)
}

/// What the spool says itself; none if it says nothing.
pub(crate) fn of_spool(spool: &Path) -> Result<Option<Layer>, Fault> {
    let path = spool.join(NAME);
    match file::read_in_spool(spool, &path)? {
        Some(text) => Ok(Some(Layer::parse(Origin::Spool(path), &text)?)),
        None => Ok(None),
    }
}
