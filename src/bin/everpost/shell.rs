//! What helps at the shell: completions and the manual page.

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::fault::Fault;
use crate::out::Out;

pub(crate) fn completions(out: Out, shell: clap_complete::Shell) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "everpost", &mut script);
    out.bytes(&script)
}

/// One page for the command and all its parts.
pub(crate) fn man(out: Out) -> Result<(), Fault> {
    let failed = |source| Fault::io("write the manual page", &source);
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let main = clap_mangen::Man::new(command.clone());
    main.render(&mut page).map_err(failed)?;
    let mut rest: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    rest.reverse();
    while let Some(part) = rest.pop() {
        if part.get_name() == "help" {
            continue;
        }
        let man = clap_mangen::Man::new(part.clone());
        man.render_name_section(&mut page)
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_description_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page))
            .map_err(failed)?;
        let parts: Vec<clap::Command> = part.get_subcommands().cloned().collect();
        rest.extend(parts.into_iter().rev());
    }
    out.bytes(&page)
}
