//! The command `everpost`, as a process: exit codes, output, signals, live control.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod append;
mod beside;
mod damage;
mod dead;
mod doctor;
mod drain;
mod fate;
mod fleet;
mod fleet_run;
mod health;
mod held;
mod incidents;
mod live;
mod looking;
mod many;
mod nats;
mod opening;
mod output;
mod owners;
mod page;
mod receivers;
mod relay;
mod relay_channels;
mod relay_doors;
mod relay_fleet;
mod relay_floods;
mod relay_pages;
mod relay_repeats;
mod sandbox;
mod secrets;
mod service;
mod set_up;
mod settings;
mod snapshots;
mod terminal;
mod tls;
mod unread;
mod waiting;
mod words;
