//! `completions`.

use clap::Args;
use clap_complete::{Shell, env::Shells};
use kaleem_dr_core::ground::Exit;

use super::Outcome;
use crate::{failure::Failure, output::line};

/// The variable that a shell sets to ask for completions.
pub const VARIABLE: &str = "COMPLETE";
const PROGRAM: &str = "kaleem-dr";

/// Arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    pub shell: Shell,
}

/// Prints a script that makes a shell ask this program for completions.
pub fn completions(args: Completions) -> Outcome {
    let name = args.shell.to_string();
    let shells = Shells::builtins();
    let shell = shells
        .completer(&name)
        .ok_or_else(|| Failure::usage(format!("there are no completions for {name}")))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Zsh {
        // As a file in `fpath`, the script is the completion function itself when it is used for the first time.
        script.push_str(
            "\nif [[ $funcstack[1] == _kaleem-dr ]]; then\n    _clap_dynamic_completer_kaleem_dr \"$@\"\nfi\n",
        );
    }
    line(script.trim())?;
    Ok(Exit::Done)
}
