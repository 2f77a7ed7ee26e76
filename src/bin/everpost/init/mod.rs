//! `init`: makes a spool and writes its settings.

mod page;
mod preset;
mod receiver;
mod stream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use everpost::botanalytics::{Botanalytics, KeySource};
use everpost::control::Client;
use everpost::http::Proxy;
use everpost::nats::Spool;
use everpost::{Error, OpenError, Queue, Settings, inspect};
use serde::Serialize;
use toml::Value;

use self::preset::Preset;
pub(crate) use self::receiver::To;
use self::stream::Stream;
pub(crate) use self::stream::machine;
use crate::args::Cli;
use crate::environment;
use crate::eyes::blocking;
use crate::fault::Fault;
use crate::out::Out;
use crate::overrides::{Rule, Word, size, written};
use crate::place::Place;
use crate::settings::{self, Effective, Layer, NAME, Pen};
use crate::text::plain;

#[derive(Clone, Debug, Args)]
pub(crate) struct Init {
    /// Settings that go together; what is said beside it wins.
    #[arg(long)]
    preset: Option<Preset>,

    /// Bytes on disk for the whole spool, such as `64MiB`; from 596 KiB.
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,

    /// What an append does when the spool is full.
    #[arg(long, value_name = "RULE")]
    on_full: Option<Rule>,

    /// When an event counts as durable: `synced` survives a power cut; `written`, or `written=5s`,
    /// the death of the process, and a power cut may cost the last second, or so many.
    #[arg(long, value_name = "LEVEL", value_parser = durability)]
    durability: Option<Value>,

    /// Events older than this are set aside; such as `30days`.
    #[arg(long, value_name = "TIME")]
    max_age: Option<String>,

    #[command(flatten)]
    to: To,

    /// Authorities to trust beside those of the system, as certificates in PEM; read again when the
    /// file changes.
    #[arg(long, value_name = "FILE", requires = "to", help_heading = "Receiver")]
    ca_file: Option<PathBuf>,

    #[command(flatten)]
    stream: Stream,

    /// The address of the Botanalytics API, up to and including the version.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,

    /// The channel of the API that the key must be of.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// The file with the key; it may come later.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// The group whose users may append while `run` serves.
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    /// Where `run` serves health and numbers over HTTP, such as `127.0.0.1:9464`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// Any other setting, as `config --json` names it: `delivery.batch_events=100`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = any)]
    set: Vec<(&'static str, Value)>,

    /// Changes the settings of a spool that is there; its events and its other settings stay.
    #[arg(long)]
    force: bool,
}

/// `synced`, `written` or `written=TIME`.
fn durability(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        None if text == "synced" => Ok(Value::String(text.to_owned())),
        None if text == "written" => Ok(written("1s")),
        Some(("written", time)) => match humantime::parse_duration(time) {
            Ok(_) => Ok(written(time)),
            Err(error) => Err(error.to_string()),
        },
        _ => Err("write `synced`, `written` or `written=5s`".to_owned()),
    }
}

/// A setting by its name, with a value as a file has it; a text may go without its quotes.
fn any(text: &str) -> Result<(&'static str, Value), String> {
    let form = "write it as NAME=VALUE, with a name that `everpost config --json` shows";
    let (name, value) = text.split_once('=').ok_or(form)?;
    let name = settings::find(name.trim()).ok_or(form)?;
    let value = value.trim();
    let value = value
        .parse()
        .unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.path, value))
}

impl Init {
    /// What was typed for this spool, the preset first.
    fn words(&self, spool: &Path) -> Result<Vec<Word>, Fault> {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let key_file = self.key_file.as_deref().map(absolute).transpose()?;
        let named = [
            ("--max-bytes", "max_bytes", self.max_bytes.clone().map(size)),
            ("--on-full", "on_full", self.on_full.map(Rule::value)),
            ("--durability", "durability", self.durability.clone()),
            ("--max-age", "max_age", text(&self.max_age)),
            ("--to", "service.receiver", self.receiver(spool)?),
            ("--base-url", "service.base_url", text(&self.base_url)),
            ("--channel", "service.channel", text(&self.channel)),
            ("--key-file", "service.key_file", key_file),
            (
                "--socket-group",
                "service.socket_group",
                text(&self.socket_group),
            ),
            ("--listen", "service.listen", text(&self.listen)),
        ];
        let mut words = self.preset.map(Preset::words).unwrap_or_default();
        for (word, name, value) in named {
            words.extend(value.map(|value| (word, name, value)));
        }
        words.extend(
            self.set
                .iter()
                .map(|(name, value)| ("--set", *name, value.clone())),
        );
        Ok(words)
    }

    fn receiver(&self, spool: &Path) -> Result<Option<Value>, Fault> {
        let ca_file = self.ca_file.as_deref();
        self.to.value(ca_file, &self.stream, || name_there(spool))
    }
}

/// What a spool is called in a stream, by its settings.
fn name_there(spool: &Path) -> Option<Spool> {
    let layer = settings::of_spool(spool).ok()??;
    let mut said = layer.into_said().into_iter();
    let (_, said) = said.find(|(name, _)| *name == "service.receiver")?;
    said.value.get("spool")?.as_str()?.parse().ok()
}

/// The service may run in another directory than this command.
pub(crate) fn absolute(path: &Path) -> Result<Value, Fault> {
    let path =
        std::path::absolute(path).map_err(|source| Fault::io("find the key file", &source))?;
    match path.to_str() {
        Some(path) => Ok(Value::String(path.to_owned())),
        None => Err(Fault::usage("--key-file is no text in UTF-8")
            .hint("give the file a name that is one, or set BA_API_KEY_FILE")),
    }
}

pub(crate) async fn init(cli: &Cli, init: &Init, out: Out) -> Result<(), Fault> {
    let place = Place::of(cli)?;
    let spool = place.path.as_path();
    let file = environment::named(cli);
    // What is wrong with the words or the place is told before anything is made.
    exists(spool).await?;
    Plan::make(spool, file, init)?;
    let (mut made, pen) = Made::begin(spool)?;
    let done = async {
        // From here on no other `init` changes what is found.
        let is_new = !exists(spool).await?;
        let plan = Plan::make(spool, file, init)?;
        if !is_new || plan.had_file {
            plan.may_change(init.force)?;
        }
        if plan.is_change() {
            made.wrote = !plan.had_file;
            pen.write(&plan.page())?;
        } else {
            drop(pen);
        }
        if is_new {
            open(spool, plan.settings()).await?;
        }
        Ok((plan, is_new))
    };
    let (plan, is_new) = match done.await {
        Ok(done) => done,
        Err(fault) => {
            made.undo();
            return Err(fault);
        }
    };
    let report = Report {
        made: is_new,
        wrote: plan.is_change(),
        file: plan.file.display().to_string(),
        has_owner: Client::new(spool).status().await.is_ok(),
        spool: spool.display().to_string(),
        settings: plan.chosen.into_iter().map(without_query).collect(),
    };
    out.show(&report, || report.for_people(&place))
}

async fn exists(spool: &Path) -> Result<bool, Fault> {
    let spool = spool.to_owned();
    blocking(move || inspect::exists(&spool)).await
}

/// Makes the spool, or finds that an owner was faster.
async fn open(spool: &Path, settings: Settings) -> Result<(), Fault> {
    match Queue::builder(spool).settings(settings).open().await {
        Ok(queue) => {
            queue.close(Duration::ZERO).await?;
            Ok(())
        }
        Err(OpenError::InUse { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the settings of a spool are to be.
struct Plan {
    file: PathBuf,
    had_file: bool,
    /// All that the file says then.
    chosen: BTreeMap<&'static str, Value>,
    before: Effective,
    after: Effective,
    typed: Vec<&'static str>,
}

impl Plan {
    /// # Errors
    /// A fault that names what was typed and is out of its range, or what stands in the file.
    fn make(spool: &Path, file: Option<(&Path, bool)>, init: &Init) -> Result<Self, Fault> {
        let mut new: Vec<Layer> = file
            .map(settings::of_file)
            .transpose()?
            .into_iter()
            .collect();
        new.push(Layer::of_words(init.words(spool)?)?);
        let said = new.iter().flat_map(Layer::names);
        let mut typed: Vec<_> = said.collect();
        typed.sort_unstable();
        typed.dedup();
        let of_spool = match settings::of_spool(spool) {
            // It is written anew, so that it need not be right.
            Err(_) if init.force => None,
            read => read?,
        };
        let had_file = of_spool.is_some();
        let mut layers = settings::files(None, None)?;
        layers.extend(of_spool.clone());
        let before = Effective::of(layers.clone()).or_else(|fault| {
            if init.force {
                Ok(Effective::plain())
            } else {
                Err(fault)
            }
        })?;
        let said = of_spool.into_iter().chain(new.clone());
        let said = said.flat_map(Layer::into_said);
        let chosen = said.map(|(name, said)| (name, said.value)).collect();
        layers.extend(new);
        let after = Effective::of(layers)?;
        if let Some(base_url) = after.service().base_url.as_deref() {
            check_address(base_url)?;
        }
        Ok(Self {
            file: spool.join(NAME),
            had_file,
            chosen,
            before,
            after,
            typed,
        })
    }

    fn settings(&self) -> Settings {
        self.after.settings().clone()
    }

    fn page(&self) -> String {
        page::page(&self.chosen)
    }

    /// What was typed and is not so yet: name, old and new value.
    fn changes(&self) -> Vec<(&'static str, String, String)> {
        let (before, after) = (self.before.values(), self.after.values());
        let shown = |values: &BTreeMap<String, serde_json::Value>, name: &str| {
            let value = values.get(name).unwrap_or(&serde_json::Value::Null);
            settings::find(name).map_or_else(String::new, |name| name.kind.shown(value))
        };
        self.typed
            .iter()
            .filter(|name| self.before.differs(&self.after, name))
            .map(|name| (*name, shown(&before, name), shown(&after, name)))
            .collect()
    }

    /// Whether the file has to be written.
    fn is_change(&self) -> bool {
        !self.had_file || !self.changes().is_empty()
    }

    /// # Errors
    /// A fault that says what differs, if it may not be changed.
    fn may_change(&self, is_forced: bool) -> Result<(), Fault> {
        let changes = self.changes();
        if is_forced || changes.is_empty() {
            return Ok(());
        }
        let differs: Vec<String> = changes
            .iter()
            .map(|(name, old, new)| match old == new {
                true => format!("{name} is {old}, and differs in what is not shown here"),
                false => format!("{name} is {old}, not {new}"),
            })
            .collect();
        let spool = self.file.parent().unwrap_or(&self.file).display();
        let text = format!(
            "there is a spool already, with other settings: {}. path=`{spool}`",
            differs.join("; ")
        );
        Err(Fault::usage(text).hint("--force changes these settings; events and all else stay"))
    }
}

/// A setting as it is shown: the query of an address may be secret.
fn without_query((name, mut value): (&'static str, Value)) -> (&'static str, Value) {
    if let Some(Value::String(url)) = value.get_mut("url") {
        url.truncate(url.find(['?', '#']).unwrap_or(url.len()));
    }
    (name, value)
}

/// Refuses an address that is none. The key, which may come later, is not looked for.
fn check_address(base_url: &str) -> Result<(), Fault> {
    let sink = Botanalytics::builder(KeySource::value(""));
    match sink.base_url(base_url).proxy(Proxy::None).build() {
        Err(Error::Sink { reason }) => Err(Fault::usage(format!(
            "`base_url` cannot be \"{base_url}\": {reason}"
        ))
        .hint("write it with https:// in front, up to and including the version")),
        _ => Ok(()),
    }
}

/// What was made so far, for the case that the rest fails.
struct Made<'a> {
    spool: &'a Path,
    /// The innermost first.
    dirs: Vec<PathBuf>,
    /// Whether the settings are there only since then.
    wrote: bool,
}

impl<'a> Made<'a> {
    /// Makes the directory. The settings are there before the spool is, so that its first owner has
    /// them.
    fn begin(spool: &'a Path) -> Result<(Self, Pen), Fault> {
        let made = Self {
            spool,
            dirs: settings::make_dir(spool)?,
            wrote: false,
        };
        let pen = settings::may_write(spool).and_then(|()| Pen::take(spool));
        match pen {
            Ok(pen) => Ok((made, pen)),
            Err(fault) => {
                made.undo();
                Err(fault)
            }
        }
    }

    fn undo(&self) {
        if self.wrote {
            let _ = std::fs::remove_file(self.spool.join(NAME));
        }
        // Only those in which nothing else is.
        settings::take_back(&self.dirs);
    }
}

#[derive(Serialize)]
struct Report {
    spool: String,
    /// Whether there was no spool before.
    made: bool,
    /// Whether the file was written.
    wrote: bool,
    file: String,
    /// What the file says.
    settings: BTreeMap<&'static str, Value>,
    /// Whether an owner runs, which takes the settings when it starts next.
    has_owner: bool,
}

impl Report {
    fn for_people(&self, place: &Place) -> String {
        let (spool, file) = (&self.spool, &self.file);
        let mut text = match (self.made, self.wrote) {
            (true, _) => format!("made a spool at {spool}\nits settings are in {file}\n"),
            (false, true) => format!("the settings of the spool at {spool} are in {file}\n"),
            (false, false) => format!("the spool at {spool} is there and has these settings\n"),
        };
        for (name, value) in &self.settings {
            text.push_str(&format!("  {name} = {value}\n"));
        }
        if self.wrote && self.has_owner {
            text.push_str(
                "the owner that runs takes them when it starts next; on SIGHUP it reads its key \
                 again, and only names the settings that have changed\n",
            );
        }
        let named = match place.by {
            "--spool" => format!(" --spool {spool}"),
            _ => String::new(),
        };
        text.push_str(&format!(
            "next: everpost{named} append events.jsonl   events, one JSON value a line\n\
             \u{20}     everpost{named} run                   delivers, as a service does\n\
             \u{20}     everpost{named} config                all settings, and who said so\n"
        ));
        text.lines().map(|line| plain(line) + "\n").collect()
    }
}
