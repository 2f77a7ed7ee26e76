//! The text of a settings file: what is chosen, and everything else as a comment.

use std::collections::BTreeMap;

use toml::Value;

use crate::settings::{NAMES, TABLES};

/// Every setting with its default and what it does.
const TEMPLATE: &str = include_str!("../../../../docs/settings.toml");

const HEAD: &str = "\
# Settings of this spool, written by `everpost init`. Every command that owns the spool follows
# them, unless `--settings`, a variable or an argument says otherwise; `everpost config` shows which
# are in effect and who said so. An owner that runs takes a change when it starts next; on SIGHUP it
# names the settings that have changed, and goes on with those it has.
#
# What is a comment has the default. An unknown name is refused by that name, and every value that is
# out of its range is named with that range.
";

/// The file that holds these values, by their paths.
pub(super) fn page(chosen: &BTreeMap<&'static str, Value>) -> String {
    let mut text = HEAD.to_owned();
    let mut table = String::new();
    // The first paragraph is about the template itself.
    for line in TEMPLATE.lines().skip_while(|line| !line.is_empty()) {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = bare
            .strip_prefix('[')
            .and_then(|bare| bare.strip_suffix(']'))
            && TABLES.contains(&name)
        {
            table = format!("{name}.");
            text.push_str(bare);
        } else if let Some((key, _)) = bare.split_once(" = ")
            && let Some(name) = NAMES
                .iter()
                .find(|name| *name.path == format!("{table}{key}"))
        {
            match chosen.get(name.path) {
                Some(value) => text.push_str(&format!("{key} = {value}")),
                None => text.push_str(&format!("# {bare}")),
            }
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Layer, Origin};

    fn values(text: &str) -> BTreeMap<&'static str, Value> {
        let layer = Layer::parse(Origin::Word("page"), text).unwrap();
        let said = layer.into_said().into_iter();
        said.map(|(name, said)| (name, said.value)).collect()
    }

    #[test]
    fn a_page_says_what_was_chosen_and_nothing_else() {
        assert_eq!(values(&page(&BTreeMap::new())), BTreeMap::new());
        let all: BTreeMap<&str, Value> = NAMES
            .iter()
            .map(|name| {
                let value = match name.path {
                    "durability" => crate::overrides::written("3s"),
                    "service.key_file" => Value::String("/a \"b\"\\\n\u{202E}".to_owned()),
                    _ => match name.kind {
                        crate::settings::Kind::Size => Value::String("3 MiB".to_owned()),
                        crate::settings::Kind::Time => Value::String("3min".to_owned()),
                        crate::settings::Kind::Whole => Value::Integer(3),
                        crate::settings::Kind::Fraction => Value::Float(0.25),
                        crate::settings::Kind::Word(words) => {
                            Value::String((*words.last().unwrap()).to_owned())
                        }
                        crate::settings::Kind::Text(example) => Value::String(example.to_owned()),
                        crate::settings::Kind::Durability => Value::String("synced".to_owned()),
                        crate::settings::Kind::Receiver => {
                            Value::String("loki://localhost".to_owned())
                        }
                    },
                };
                (name.path, value)
            })
            .collect();
        assert_eq!(values(&page(&all)), all);
        for (name, value) in &all {
            let one = BTreeMap::from([(*name, value.clone())]);
            assert_eq!(values(&page(&one)), one);
        }
    }
}
