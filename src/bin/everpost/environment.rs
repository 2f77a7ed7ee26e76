//! What the command is told by its environment, its settings files and what was typed.

use std::path::{Path, PathBuf};

use everpost::botanalytics::{Botanalytics, Builder, KeySource};
use everpost::{Error, Settings, exit};
use toml::Value;

use crate::args::{Cli, Command};
use crate::fault::Fault;
use crate::out::remark;
use crate::overrides::{self, Word};
use crate::place::Place;
use crate::settings::{self, Effective, Layer, Origin, Service, To};
use crate::text::plain;
use crate::upstream::Upstream;

/// The variable with the key.
const KEY: &str = "BA_API_KEY";

/// The variable with the name of a file with the key.
const KEY_FILE: &str = "BA_API_KEY_FILE";

/// The directory of the queue: see [`Place`].
pub(crate) fn spool(cli: &Cli) -> Result<PathBuf, Fault> {
    Ok(Place::of(cli)?.path)
}

/// The settings of the queue, for a command that is about to open it. Who looks, or asks the owner,
/// has no use for them: they need not be right then, so that they are not read before.
pub(crate) fn settings(cli: &Cli) -> Result<Settings, Fault> {
    Ok(effective(cli, false)?.settings().clone())
}

/// The settings of the command itself; the variables `BA_*` win over the files.
pub(crate) fn service(cli: &Cli) -> Result<Service, Fault> {
    Ok(effective(cli, true)?.service().clone())
}

/// All settings, and who said so. The variables count where something is delivered: with the
/// others, one that is ill-formed does no harm.
pub(crate) fn effective(cli: &Cli, delivers: bool) -> Result<Effective, Fault> {
    effective_in(cli, spool(cli).ok().as_deref(), delivers)
}

/// As [`effective`], with the settings of this spool.
pub(crate) fn effective_in(
    cli: &Cli,
    spool: Option<&Path>,
    delivers: bool,
) -> Result<Effective, Fault> {
    let mut layers = settings::files(spool, named(cli))?;
    if delivers {
        layers.push(Layer::of_words(variables()?)?);
    }
    layers.push(Layer::of_words(overrides::words(cli))?);
    Effective::of(layers)
}

/// The settings of one of several spools: the variables, and what is typed for one spool, are not
/// meant for it.
pub(crate) fn effective_of_channel(
    cli: &Cli,
    spool: &Path,
    layer: Option<Layer>,
) -> Result<Effective, Fault> {
    let mut layers = settings::files(Some(spool), named(cli))?;
    layers.extend(layer);
    Effective::of(layers)
}

/// What a worker goes by, which has no spool: the files that are no spool's, the variables, and what
/// was typed.
pub(crate) fn effective_of_worker(cli: &Cli, words: Vec<Word>) -> Result<Effective, Fault> {
    let mut layers = settings::files(None, named(cli))?;
    layers.push(Layer::of_words(variables()?)?);
    layers.push(Layer::of_words(words)?);
    Effective::of(layers)
}

/// Refuses what was typed and is no value of its setting, also where an owner has its own.
pub(crate) fn check_words(cli: &Cli) -> Result<(), Fault> {
    Layer::of_words(overrides::words(cli)).map(drop)
}

/// The settings file that is named, and whether a variable names it.
pub(crate) fn named(cli: &Cli) -> Option<(&Path, bool)> {
    let path = cli.settings.as_deref()?;
    if path.as_os_str().is_empty() {
        return None;
    }
    let variable = std::env::var_os("EVERPOST_SETTINGS");
    Some((path, variable.is_some_and(|variable| path == variable)))
}

/// Says on standard error what the spool's own settings say and this owner does not follow.
pub(crate) fn tell_overrides(cli: &Cli) {
    if cli.json {
        return;
    }
    let delivers = matches!(cli.command, Command::Drain(_) | Command::Run(_));
    // They were read a moment ago, so that there is nothing new to fail.
    let told = effective(cli, delivers).ok();
    if let Some(text) = told.and_then(|effective| effective.overrides(delivers)) {
        remark(&format!("everpost: {}", plain(&text)));
    }
}

/// Says on standard error which settings were typed in vain, since another process owns the spool.
/// A variable may be meant for other commands, and says nothing here.
pub(crate) fn tell_unfollowed(cli: &Cli) {
    if let Some(text) = unfollowed(&unfollowed_words(cli)) {
        remark(&format!("everpost: {text}"));
    }
}

/// What was typed about how a spool is owned.
fn unfollowed_words(cli: &Cli) -> Vec<&'static str> {
    // What is set for the command itself, such as the form of its log, holds beside an owner too.
    let words = overrides::words(cli).into_iter();
    let of_queue = words.filter(|(_, name, _)| !name.starts_with(settings::SERVICE));
    let mut typed: Vec<&str> = of_queue.map(|(word, ..)| word).collect();
    if matches!(named(cli), Some((_, false))) {
        typed.push("--settings");
    }
    if cli.owners.socket_group.is_some() {
        typed.push("--socket-group");
    }
    typed
}

fn unfollowed(typed: &[&str]) -> Option<String> {
    let has = match typed {
        [] => return None,
        [_] => "has",
        _ => "have",
    };
    let names = typed.join(" and ");
    let values: String = typed.iter().map(|word| format!(" {word} ...")).collect();
    Some(format!(
        "{names} {has} no effect: another process owns the spool, and its settings hold; for its \
         next start: `everpost init --force{values}`"
    ))
}

/// The receiver of the spool, as the settings and the variables say.
///
/// # Errors
/// A fault if it is another one than the spool says itself, unless that `is_meant`.
pub(crate) fn upstream(cli: &Cli, is_meant: bool) -> Result<Upstream, Fault> {
    let effective = effective(cli, true)?;
    if !is_meant {
        check_receiver(&effective)?;
    }
    Ok(match &effective.service().receiver {
        To::Botanalytics => Upstream::Api(built(sink_builder(&effective), &effective)?),
        To::Receiver(receiver) => {
            let built = receiver.as_ref().clone().build();
            Upstream::Receiver(named_receiver(built, &effective)?)
        }
        To::Stream(target) => {
            let built = target.as_ref().clone().build();
            Upstream::of_stream(target, named_receiver(built, &effective)?)
        }
    })
}

/// As [`upstream`], also where there is no secret yet.
pub(crate) fn upstream_that_waits(
    effective: &Effective,
    is_meant: bool,
) -> Result<Upstream, Fault> {
    if !is_meant {
        check_receiver(effective)?;
    }
    Ok(match &effective.service().receiver {
        To::Botanalytics => {
            Upstream::Api(built(sink_builder(effective).wait_for_key(), effective)?)
        }
        To::Receiver(receiver) => {
            let builder = receiver.as_ref().clone().builder().wait_for_secrets();
            Upstream::Receiver(named_receiver(builder.build(), effective)?)
        }
        To::Stream(target) => {
            let builder = target.as_ref().clone().builder().wait_for_secrets();
            Upstream::of_stream(target, named_receiver(builder.build(), effective)?)
        }
    })
}

/// Refuses to deliver the events of one receiver to another.
fn check_receiver(effective: &Effective) -> Result<(), Fault> {
    let Some(meant) = effective.redirected() else {
        return Ok(());
    };
    let now = &effective.service().receiver;
    let by = effective.said("service.receiver");
    let by = by.map_or_else(String::new, |said| format!(" ({})", said.by));
    let text = format!("the events of this spool are meant for {meant}, and would go to {now}{by}");
    Err(Fault::new(exit::USAGE, text).hint(
        "`--redirect` delivers them there all the same; for good: `everpost init --force --to ...`",
    ))
}

fn named_receiver<T>(built: Result<T, Error>, effective: &Effective) -> Result<T, Fault> {
    built.map_err(|error| {
        let mut fault = Fault::from(error);
        if let Some(said) = effective.said("service.receiver") {
            fault.text = format!("{} ({})", fault.text, said.by);
        }
        fault.hint = Some("mend it, or write it anew: `everpost init --force --to ...`".into());
        fault
    })
}

pub(crate) fn built(builder: Builder, effective: &Effective) -> Result<Botanalytics, Fault> {
    builder.build().map_err(|error| {
        let is_address = matches!(&error, Error::Sink { reason } if reason.contains("URL"));
        let mut fault = Fault::from(error);
        if let Some(said) = effective.said("service.base_url").filter(|_| is_address) {
            fault.text = format!("{} ({})", fault.text, said.by);
            fault.hint =
                Some("write it with https:// in front, up to and including the version".into());
        }
        fault
    })
}

/// As the settings and the variables say, but for the key it could be built.
pub(crate) fn sink_builder(effective: &Effective) -> Builder {
    sink_builder_with(key(effective), effective)
}

/// As the settings say, with a key from elsewhere.
pub(crate) fn sink_builder_with(key: KeySource, effective: &Effective) -> Builder {
    let service = effective.service();
    let mut builder = Botanalytics::builder(key);
    if let Some(base_url) = &service.base_url {
        builder = builder.base_url(base_url);
    }
    if let Some(channel) = &service.channel {
        builder = builder.channel(channel);
    }
    if let Some(timeout) = service.request_timeout {
        builder = builder.request_timeout(timeout);
    }
    builder
}

/// Where the key comes from: `BA_API_KEY_FILE`, `BA_API_KEY`, or the file that the settings name.
pub(crate) fn key(effective: &Effective) -> KeySource {
    key_file(effective).map_or_else(KeySource::env, KeySource::file)
}

/// The file that holds the key, if one does.
pub(crate) fn key_file(effective: &Effective) -> Option<PathBuf> {
    let file = effective.service().key_file.clone();
    file.filter(|_| !is_key_in_variable(effective))
}

/// Whether the key is the variable's: variables win over files, and among them the file.
pub(crate) fn is_key_in_variable(effective: &Effective) -> bool {
    let said = effective.said("service.key_file");
    let is_file_in_variable = said.is_some_and(|said| said.by.origin == Origin::Word(KEY_FILE));
    !is_file_in_variable && std::env::var_os(KEY).is_some_and(|key| !key.is_empty())
}

/// What the variables of the official SDKs say, `BA_API_KEY_FILE`, and how it is logged. Those that
/// are empty say nothing.
fn variables() -> Result<Vec<Word>, Fault> {
    let mut words = Vec::new();
    for (variable, name) in [
        ("BA_BASE_URL", "service.base_url"),
        (KEY_FILE, "service.key_file"),
        ("EVERPOST_LOG_FORMAT", "service.log_format"),
    ] {
        if let Some(text) = variable_text(variable)? {
            words.push((variable, name, Value::String(text)));
        }
    }
    let variable = "BA_REQUEST_TIMEOUT";
    if let Some(text) = variable_text(variable)? {
        let ms: u32 = text.trim().parse().map_err(|_| {
            Fault::usage(format!(
                "{variable} is `{text}`, which is no number of milliseconds"
            ))
            .hint("write a whole number, such as 30000")
        })?;
        words.push((
            variable,
            "service.request_timeout",
            Value::String(format!("{ms}ms")),
        ));
    }
    Ok(words)
}

fn variable_text(name: &str) -> Result<Option<String>, Fault> {
    match std::env::var(name) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Fault::usage(format!("{name} is no text in UTF-8")).hint("write it anew"))
        }
    }
}
