//! `completions`.

use clap::Args;
use clap_complete::Shell;
use kaleem_dr_core::ground::Exit;

use super::Outcome;
use crate::output::line;

/// Arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    pub shell: Shell,
}

/// Prints shell completions for this command line.
pub fn completions(mut command_line: clap::Command, args: Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line, "kaleem-dr", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Bash {
        // The cases are named otherwise than the words that select them, if a program's name has a hyphen
        // (github.com/clap-rs/clap, issue 6421).
        script = script.replace("kaleem__subcmd__dr", "kaleem__dr");
    }
    line(script.trim_end())?;
    Ok(Exit::Done)
}
