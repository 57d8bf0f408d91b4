//! `completions`.

use clap::Args;
use clap_complete::Shell;
use kaleem_dr_core::ground::Exit;

/// Arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    pub shell: Shell,
}

/// Prints shell completions for this command line.
pub fn completions(mut command_line: clap::Command, args: Completions) -> Exit {
    clap_complete::generate(args.shell, &mut command_line, "kaleem-dr", &mut std::io::stdout());
    Exit::Done
}
