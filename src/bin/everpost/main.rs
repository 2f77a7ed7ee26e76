//! The command `everpost`: hands and eyes for a spool.

mod alarm;
mod append;
mod args;
mod check;
mod command;
mod config;
mod dead;
mod disk;
mod doctor;
mod drain;
mod environment;
mod events;
mod eyes;
mod fate;
mod fault;
mod fleet;
mod gate;
mod group;
mod help;
mod incidents;
mod init;
mod key_care;
mod lines;
mod listen;
mod logging;
mod man;
mod meter;
mod notify;
mod orders;
mod out;
mod overrides;
mod own_export;
mod owner;
mod pace;
mod patience;
mod place;
mod refusal;
mod relay;
mod sandbox;
mod screen;
mod scribe;
mod service;
mod settings;
mod shell;
mod signals;
mod status;
mod summary;
mod target;
mod text;
mod times;
mod upstream;
mod usage;
mod validate;
mod view;
mod waiting;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(command::main())
}
