//! The manual: a page for each command.

use std::fs;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use serde::Serialize;

use crate::args;
use crate::fault::Fault;
use crate::help;
use crate::out::Out;

/// What was written.
#[derive(Serialize)]
struct Written {
    /// The names of the files, in the directory that was named.
    pages: Vec<String>,
}

pub(crate) fn man(args: &args::Man, out: Out) -> Result<(), Fault> {
    let mut command = help::command().disable_help_subcommand(true);
    command.build();
    match &args.dir {
        Some(dir) => write_all(&command, dir, out),
        None => out.bytes(&page(chosen(&command, &args.command)?)?),
    }
}

fn chosen<'a>(command: &'a Command, names: &[String]) -> Result<&'a Command, Fault> {
    let mut found = command;
    // A single argument may hold several words, as a page is named: `dead-list`, "dead list".
    let words = names.iter().flat_map(|name| name.split([' ', '-']));
    for word in words {
        found = found.find_subcommand(word).ok_or_else(|| {
            let text = format!(
                "there is no page of this name. command=`{}`",
                names.join(" ")
            );
            Fault::usage(text).hint("`everpost --help` lists the commands")
        })?;
    }
    Ok(found)
}

fn page(command: &Command) -> Result<Vec<u8>, Fault> {
    let failed = |source| Fault::io("write a manual page", &source);
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .manual("Everpost")
        .source(concat!("everpost ", env!("CARGO_PKG_VERSION")));
    man.render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .map_err(failed)?;
    if command.get_subcommands().any(|part| !part.is_hide_set()) {
        man.render_subcommands_section(&mut page).map_err(failed)?;
    }
    rest(command).to_writer(&mut page).map_err(failed)?;
    Ok(page)
}

/// What stands after the options in the help: each part that has a heading under one of its own.
fn rest(command: &Command) -> Roff {
    let mut roff = Roff::default();
    let after = command.get_after_long_help().or(command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    for part in after.split("\n\n") {
        let (heading, text) = match part.split_once('\n') {
            Some((first, text)) if first.ends_with(':') => (first.trim_end_matches(':'), text),
            _ => ("Notes", part),
        };
        if text.trim().is_empty() {
            continue;
        }
        roff.control("SH", [heading.to_uppercase().as_str()]);
        for line in text.lines() {
            roff.text([roman(line)]);
            // Lines that stand in are lines of their own.
            if line.starts_with(' ') {
                roff.control("br", []);
            }
        }
    }
    if let Some(name) = command.get_display_name().filter(|name| name.contains('-')) {
        let above = name.rsplit_once('-').map_or(name, |(above, _)| above);
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(format!("{above}(1)"))]);
    }
    roff
}

/// All commands that have a page: this one and what is below it.
fn with_parts(command: &Command) -> Vec<&Command> {
    let parts = command.get_subcommands().filter(|part| !part.is_hide_set());
    std::iter::once(command)
        .chain(parts.flat_map(with_parts))
        .collect()
}

fn write_all(command: &Command, dir: &std::path::Path, out: Out) -> Result<(), Fault> {
    let failed = |path: &std::path::Path, source| {
        let action = format!("write {}", path.display());
        Fault::io(&action, &source).hint("name a directory that this user may write to")
    };
    fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
    let mut pages = Vec::new();
    for command in with_parts(command) {
        let name = format!("{}.1", command.get_display_name().unwrap_or("everpost"));
        let path = dir.join(&name);
        fs::write(&path, page(command)?).map_err(|source| failed(&path, source))?;
        pages.push(name);
    }
    let written = Written { pages };
    out.show(&written, || {
        let pages: Vec<String> = written
            .pages
            .iter()
            .map(|name| format!("{name}\n"))
            .collect();
        pages.concat()
    })
}
