//! A file with settings of its own and those of several spools.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::DeValue;

use super::file::read_named;
use super::layer::{Layer, Origin, Page};
use crate::fault::Fault;

/// A file whose tables under one name are each what a settings file of a spool says.
#[derive(Clone, Debug)]
pub(crate) struct Parts<T> {
    /// What stands beside those tables.
    pub(crate) own: T,
    /// By the names of the tables, in their order.
    pub(crate) layers: Vec<(String, Layer)>,
}

impl<T: DeserializeOwned> Parts<T> {
    /// Reads a file. `tables` is the name that the tables stand under.
    ///
    /// # Errors
    /// A fault that names the file, the line, the column and what is wrong there.
    pub(crate) fn read(path: &Path, tables: &str) -> Result<Self, Fault> {
        Self::parse(path, &read_named(path)?, tables)
    }

    fn parse(path: &Path, text: &str, tables: &str) -> Result<Self, Fault> {
        let page = Page::new(Origin::Named(path.to_owned()), text);
        let (mut spans, mut values) = page.read()?;
        let found = spans.get_mut().remove(tables);
        let mut values_of = match values.remove(tables) {
            Some(toml::Value::Table(values)) => values,
            _ => toml::Table::new(),
        };
        let mut layers = Vec::new();
        if let Some(found) = found {
            let at = found.span();
            let DeValue::Table(found) = found.into_inner() else {
                let text = format!("`{tables}` is the name of tables");
                let hint = format!("write [{tables}.universal] on a line of its own");
                return Err(page.fault(&at, text).hint(hint));
            };
            for (name, one) in &found {
                let (DeValue::Table(inner), Some(toml::Value::Table(values))) =
                    (one.get_ref(), values_of.remove(name.get_ref().as_ref()))
                else {
                    let text = format!("`{}` has to be a table", name.get_ref());
                    let hint = format!("write [{tables}.{}] on a line of its own", name.get_ref());
                    return Err(page.fault(&one.span(), text).hint(hint));
                };
                let layer = Layer::of_table(&page, inner, &values)?;
                layers.push((name.get_ref().to_string(), layer));
            }
        }
        // With its places, which a table of values does not have.
        let own = T::deserialize(toml::de::Deserializer::from(spans));
        let own = own.map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            page.fault(&at, error.message().to_owned())
        })?;
        Ok(Self { own, layers })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Own {
        plain: bool,
    }

    fn parse(text: &str) -> Result<Parts<Own>, Fault> {
        Parts::parse(Path::new("relay.toml"), text, "channels")
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let good = parse(
            "plain = true\n[channels.a]\nmax_bytes = 1048576\n[channels.b.service]\nkey_file = \"/k\"\n",
        );
        let good = good.unwrap();
        assert!(good.own.plain);
        let names: Vec<&str> = good.layers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for (text, line, what) in [
            ("plian = true", "line 1, column 1", "plian"),
            ("plain = 1", "line 1, column 9", "boolean"),
            (
                "\n[channels.a]\nmax_byte = 1",
                "line 3, column 1",
                "max_byte",
            ),
            (
                "[channels.a]\nmax_bytes = \"x\"",
                "line 2, column 13",
                "max_bytes",
            ),
            ("channels = 1", "line 1, column 12", "tables"),
            ("[channels]\na = 1", "line 2, column 5", "table"),
            ("[channels.a.b]\nc = 1", "line 1, column 13", "`b`"),
            (
                "[channels.a.service]\nkey_file = \"k\"",
                "line 2, column 12",
                "absolute",
            ),
            ("plain = ", "line 1, column 9", ""),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(
                fault.text.contains(line) && fault.text.contains(what),
                "{text:?}: {fault:?}"
            );
        }
    }
}
