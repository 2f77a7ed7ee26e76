//! What helps at the shell: completions and the version.

use serde::Serialize;

use crate::fault::Fault;
use crate::help;
use crate::out::Out;

pub(crate) fn completions(out: Out, shell: clap_complete::Shell) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::command(), "everpost", &mut script);
    out.bytes(&script)
}

/// Which release this is.
#[derive(Serialize)]
struct Version {
    version: &'static str,
}

pub(crate) fn version(out: Out) -> Result<(), Fault> {
    let version = env!("CARGO_PKG_VERSION");
    out.show(&Version { version }, || format!("everpost {version}\n"))
}
