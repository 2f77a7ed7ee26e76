//! What one channel of a relay is to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use everpost::botanalytics::{Botanalytics, Builder, KeySource};
use everpost::{Durability, OnFull, Settings};
use serde_json::Value;

use super::args;
use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::out::remark;
use crate::settings::{Effective, Layer, Origin, To};
use crate::text::plain;

/// The channel of a sandbox if none is typed.
const UNIVERSAL: &str = "universal";

/// A channel, where its spool is, what its settings are and where its key comes from.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    name: String,
    spool: PathBuf,
    effective: Effective,
    settings: Settings,
    key: KeyPlace,
}

/// Where the key of a channel comes from.
#[derive(Clone, Debug)]
enum KeyPlace {
    /// As the variables and the settings say.
    Said,
    File(PathBuf),
    /// A sandbox has its own.
    Sandbox,
}

impl Assignment {
    /// Those that no file names: the typed ones, or the one that the settings or the key name.
    pub(super) async fn typed(
        cli: &Cli,
        args: &args::Relay,
        dir: &Path,
    ) -> Result<Vec<Self>, Fault> {
        match args.channel.as_slice() {
            [] if args.sandbox => Ok(vec![Self::of_file(cli, dir, UNIVERSAL.to_owned(), None)?]),
            [] => Ok(vec![Self::said(cli, dir, None).await?]),
            [one] if !args.sandbox => Ok(vec![Self::said(cli, dir, Some(one)).await?]),
            several => {
                let names: BTreeSet<&String> = several.iter().collect();
                let of = |name: &String| Self::of_file(cli, dir, name.clone(), None);
                names.into_iter().map(of).collect()
            }
        }
    }

    /// The only one: the variables and the settings say where it goes, and with which key.
    async fn said(cli: &Cli, dir: &Path, typed: Option<&String>) -> Result<Self, Fault> {
        // Which spool it is, its channel says, and that may be said by what all spools share.
        let shared = environment::effective_in(cli, None, true)?;
        let said = typed.cloned().or_else(|| shared.service().channel.clone());
        let name = match said {
            Some(name) => name,
            None => key_says(&shared).await?,
        };
        let spool = spool(dir, &name)?;
        let effective = environment::effective_in(cli, Some(&spool), true)?;
        Self::new(name, spool, effective, KeyPlace::Said)
    }

    /// One of several, or one that a file names: the variables are not meant for it.
    pub(super) fn of_file(
        cli: &Cli,
        dir: &Path,
        name: String,
        layer: Option<Layer>,
    ) -> Result<Self, Fault> {
        let spool = spool(dir, &name)?;
        let effective = environment::effective_of_channel(cli, &spool, layer)?;
        let said = &effective.service().channel;
        if let Some(other) = said.as_ref().filter(|said| **said != name) {
            let by = effective
                .said("service.channel")
                .map(|said| said.by.to_string());
            let text = format!(
                "the channel {name} is called {} by its settings ({})",
                plain(other),
                by.unwrap_or_default()
            );
            return Err(
                Fault::usage(text).hint("leave `channel` out there: its table has the name")
            );
        }
        let by = effective
            .said("service.key_file")
            .map(|said| &said.by.origin);
        let file = match &effective.service().key_file {
            // That of the whole system is for its one spool, and a key is for one channel.
            Some(file) if !matches!(by, Some(Origin::Etc(_))) => file.clone(),
            _ => dir.join(format!("{name}.key")),
        };
        Self::new(name, spool, effective, KeyPlace::File(file))
    }

    fn new(
        name: String,
        spool: PathBuf,
        effective: Effective,
        key: KeyPlace,
    ) -> Result<Self, Fault> {
        let settings = settings(&name, &effective)?;
        Ok(Self {
            name,
            spool,
            effective,
            settings,
            key,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn spool(&self) -> &Path {
        &self.spool
    }

    /// Where it is kept what was taken lately: a name that no channel can have.
    pub(super) fn repeats(&self) -> PathBuf {
        self.spool.with_extension("repeats")
    }

    pub(super) fn effective(&self) -> &Effective {
        &self.effective
    }

    /// Those of its queue.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The file with its key, if it is in one.
    pub(super) fn key_file(&self) -> Option<PathBuf> {
        match &self.key {
            KeyPlace::Said => environment::key_file(&self.effective),
            KeyPlace::File(path) => Some(path.clone()),
            KeyPlace::Sandbox => None,
        }
    }

    /// Delivers to a sandbox of its own.
    pub(super) fn use_sandbox(&mut self) {
        self.key = KeyPlace::Sandbox;
    }

    pub(super) fn is_for_a_sandbox(&self) -> bool {
        matches!(self.key, KeyPlace::Sandbox)
    }

    /// The way to the API; a key that is not there yet is waited for.
    pub(super) fn sink(&self) -> Result<Botanalytics, Fault> {
        let to = &self.effective.service().receiver;
        if *to != To::Botanalytics {
            // The relay speaks for the API, which would never see what its clients were told it took.
            let text = format!(
                "the channel {} is meant for {}, and a relay delivers to botanalytics",
                plain(&self.name),
                plain(&to.to_string())
            );
            return Err(Fault::usage(text)
                .hint("`everpost run` delivers there; for the relay: `everpost init --force --to botanalytics`"));
        }
        let source = match &self.key {
            KeyPlace::File(path) => KeySource::file(path),
            KeyPlace::Said | KeyPlace::Sandbox => environment::key(&self.effective),
        };
        let builder = environment::sink_builder_with(source, &self.effective);
        let builder: Builder = builder.channel(&self.name).wait_for_key();
        environment::built(builder, &self.effective)
    }

    /// Every setting, and the place of the key.
    pub(super) fn values(&self) -> BTreeMap<String, Value> {
        let mut values = self.effective.values();
        let key = self.key_file().map(|path| path.display().to_string());
        values.insert("service.key_file".to_owned(), key.into());
        values
    }
}

/// The spool of a channel: its name is that of a directory.
fn spool(dir: &Path, name: &str) -> Result<PathBuf, Fault> {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
    if name.is_empty() || name.len() > 40 || !name.bytes().all(is_name) {
        let text = format!("`{}` is no name of a channel", plain(name));
        let hint = "a channel is named by up to 40 lower-case letters, digits, `-` and `_`, such as universal or rasa";
        return Err(Fault::usage(text).hint(hint));
    }
    Ok(dir.join(name))
}

/// The channel that the key is made for.
async fn key_says(effective: &Effective) -> Result<String, Fault> {
    let builder = environment::sink_builder(effective).wait_for_key();
    let sink = environment::built(builder, effective)?;
    match sink.key().await {
        Ok(key) => Ok(key.channel().to_owned()),
        Err(error) => {
            let text = format!("no channel is named, and the key does not say it: {error}");
            let hint = "add --channel universal, or whichever it is: what comes is kept until there is a key";
            Err(Fault::usage(text).hint(hint))
        }
    }
}

/// Those of the spool, but for what would take back a 200.
fn settings(name: &str, effective: &Effective) -> Result<Settings, Fault> {
    let mut settings = effective.settings().clone();
    let by = |name| match effective.said(name) {
        Some(said) => format!(" ({})", said.by),
        None => String::new(),
    };
    if settings.on_full == OnFull::DropOldest {
        let text = format!(
            "on_full = \"drop_oldest\"{} would drop what was answered with 200 by the channel {name}",
            by("on_full")
        );
        let hint = "set it to \"reject\": a relay holds requests while its queue is full";
        return Err(Fault::usage(text).hint(hint));
    }
    settings.on_full = OnFull::Reject;
    if settings.durability != Durability::Synced {
        remark(&format!(
            "everpost: a relay answers with 200 once a power cut costs nothing: it does not follow \
             `durability`{}",
            plain(&by("durability"))
        ));
        settings.durability = Durability::Synced;
    }
    Ok(settings)
}
