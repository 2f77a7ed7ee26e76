//! From what was typed to what is done, and to the exit code.

use everpost::exit;

use crate::args::{Cli, Command};
use crate::fault::Fault;
use crate::out::Out;
use crate::{
    append, check, config, dead, doctor, drain, events, fate, fleet, incidents, init, man, orders,
    pace, relay, sandbox, scribe, service, shell, signals, status, usage, validate,
};

/// Runs the command line of this process.
pub(crate) fn main() -> u8 {
    let cli = match usage::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let code = match run(&cli) {
        Ok(()) => exit::DONE,
        Err(fault) => {
            fault.tell(cli.json);
            fault.code
        }
    };
    scribe::finish();
    code
}

fn run(cli: &Cli) -> Result<(), Fault> {
    // Where the system gives no thread, tokio would panic.
    std::thread::Builder::new()
        .spawn(|| {})
        .map_err(|source| Fault::io("start a thread", &source))?;
    // One thread beside this one: it serves other commands and delivers, also while this command
    // waits for its terminal. Whatever waits for a disk has a thread of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| Fault::io("start the runtime", &source))?;
    let done = runtime.block_on(dispatch(cli));
    // A thread that waits for a disk which does not answer keeps the command from nothing.
    runtime.shutdown_background();
    done
}

async fn dispatch(cli: &Cli) -> Result<(), Fault> {
    signals::outlive_the_file_limit()?;
    let out = Out { json: cli.json };
    match &cli.command {
        Command::Config => config::config(cli, out),
        Command::Init(args) => init::init(cli, args, out).await,
        Command::Append(args) => append::append(cli, args, out).await,
        Command::Drain(deadline) => drain::drain(cli, deadline, out).await,
        Command::Run(args) => service::run(cli, args, out).await,
        Command::Status(args) => status::status(cli, args, out).await,
        Command::Peek(args) => events::peek(cli, args, out).await,
        Command::Export(args) => events::export(cli, args, out).await,
        Command::Import(args) => append::import(cli, args, out).await,
        Command::Fate(args) => fate::fate(cli, args, out).await,
        Command::Dead(command) => dead::dead(cli, command, out).await,
        Command::Pause => orders::pause(cli, out).await,
        Command::Resume => orders::resume(cli, out).await,
        Command::Wake => orders::wake(cli, out).await,
        Command::Pace(args) => pace::pace(cli, args, out).await,
        Command::Verify => check::verify(cli, out),
        Command::Incidents(args) => incidents::incidents(cli, args, out).await,
        Command::Repair(args) => check::repair(cli, args, out).await,
        Command::Relay(args) => relay::relay(cli, args, out).await,
        Command::Fleet(command) => fleet::fleet(cli, command, out).await,
        Command::Sandbox(args) => sandbox::sandbox(args, out).await,
        Command::Completions { shell } => shell::completions(out, *shell),
        Command::Man(args) => man::man(args, out),
        Command::Version => shell::version(out),

        Command::Doctor => doctor::doctor(cli, out).await,
        Command::Validate(args) => validate::validate(args, out).await,
    }
}
