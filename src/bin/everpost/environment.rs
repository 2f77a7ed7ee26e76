//! What the command is told by its environment and its settings file.

use std::path::PathBuf;

use everpost::Settings;
use everpost::botanalytics::{Botanalytics, Builder, KeySource};

use crate::args::{Cli, Level};
use crate::fault::Fault;

/// How long a written event may wait for its fdatasync under `--level written`.
const SYNC_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// The directory of the queue.
pub(crate) fn spool(cli: &Cli) -> Result<PathBuf, Fault> {
    cli.spool.clone().ok_or_else(|| {
        Fault::usage("no spool is named").hint("add --spool DIR, or set EVERPOST_SPOOL")
    })
}

/// The settings file, or the defaults.
pub(crate) fn settings(cli: &Cli) -> Result<Settings, Fault> {
    let Some(path) = &cli.settings else {
        return Ok(Settings::default());
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|source| Fault::usage(format!("failed to read settings {shown}: {source}")))?;
    let settings: Settings = toml::from_str(&text).map_err(|error| {
        Fault::usage(format!(
            "settings {shown} are not usable: {}",
            crate::text::plain(error.message())
        ))
    })?;
    settings.check()?;
    Ok(settings.in_effect())
}

/// The settings with the level of the command line.
pub(crate) fn with_level(mut settings: Settings, level: Option<Level>) -> Settings {
    match level {
        None => {}
        Some(Level::Synced) => settings.durability = everpost::Durability::Synced,
        Some(Level::Written) => {
            settings.durability = everpost::Durability::Written {
                sync_every: SYNC_EVERY,
            };
        }
    }
    settings
}

/// The API, as the variables say. `BA_API_KEY_FILE` wins over `BA_API_KEY`.
pub(crate) fn sink() -> Result<Botanalytics, Fault> {
    let mut builder = Builder::from_env()?;
    if let Some(path) = std::env::var_os("BA_API_KEY_FILE").filter(|path| !path.is_empty()) {
        builder = builder.key(KeySource::file(path));
    }
    Ok(builder.build()?)
}
