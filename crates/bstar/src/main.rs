//! `bstar`: one binary for the whole loop. Parses, dispatches, maps results to exit codes; the
//! verbs are in [`commands`], the algorithm is `bstar_core::improve`.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config;
mod countdown;
mod downloads;
mod exit;
mod gold;
mod grading;
mod ledger;
mod models;
mod named;
mod opinion;
mod output;
mod plan;
mod progress;
mod reward_folder;

use bstar_core::Fault;
use clap::Parser as _;
use cli::{Cli, ConfigVerb, RunsVerb, SimulateVerb, Verb};
use output::Notes;
use std::process::ExitCode;

/// Training, sampling and reading rollouts take and give back large buffers and many small texts;
/// this allocator keeps freed memory for reuse.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Not a verb: the sandbox starts it once for each program, so it comes before everything else.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == grading::SANDBOX_CHILD) {
        return bstar_sandbox::child::main();
    }
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(fault) => exit::report(&fault),
    }
}

fn dispatch(cli: Cli) -> Result<(), Fault> {
    let notes = Notes { quiet: cli.quiet };
    match cli.verb {
        Verb::Run(args) => commands::run::run(&args, notes),
        Verb::Compare(args) => commands::compare::compare(&args, notes),
        Verb::Plan(args) => commands::plan::plan(&args, notes),
        Verb::Eval(args) => commands::eval::eval(&args, notes),
        Verb::Merge(args) => commands::merge::merge(&args, notes),
        Verb::Analyze(args) => commands::analyze::analyze(&args, notes),
        Verb::Balance(args) => commands::balance::balance(&args, notes),
        Verb::Whatif(args) => commands::whatif::whatif(&args, notes),
        Verb::Simulate { verb: SimulateVerb::Choice(args) } => commands::simulate::choice(&args),
        Verb::Simulate { verb: SimulateVerb::Search(args) } => {
            commands::simulate::search(&args, notes)
        }
        Verb::Grade(args) => commands::grade::grade(&args, notes),
        Verb::Audit(args) => commands::audit::audit(&args, notes),
        Verb::Runs { verb: RunsVerb::List { dir, json } } => {
            commands::runs::list(dir.as_deref(), json, notes)
        }
        Verb::Runs { verb: RunsVerb::Show { run, dir, json } } => {
            commands::runs::show(&run, dir.as_deref(), json, notes)
        }
        Verb::Config { verb: ConfigVerb::Show { config, settings, json } } => {
            commands::config::show(config.as_deref(), &settings, json)
        }
        Verb::Config { verb: ConfigVerb::Schema } => commands::config::schema(),
        Verb::Config { verb: ConfigVerb::Reference } => commands::config::reference(),
        Verb::Init(args) => commands::init::init(&args.file),
        Verb::Bench(args) => commands::bench::bench(&args, notes),
        Verb::Doctor(args) => commands::doctor::doctor(args.json),
    }
}
