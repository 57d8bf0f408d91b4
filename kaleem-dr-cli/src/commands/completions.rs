//! `completions`.

use clap::Args;
use clap_complete::Shell;
use kaleem_dr_core::ground::Exit;

/// Of which shell.
#[derive(Clone, Copy, Debug, Args)]
pub struct Completions {
    pub shell: Shell,
}

/// Prints completions of this command line.
pub fn completions(mut command_line: clap::Command, args: Completions) -> Exit {
    clap_complete::generate(args.shell, &mut command_line, "kaleem-dr", &mut std::io::stdout());
    Exit::Done
}
