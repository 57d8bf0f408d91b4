//! `man`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::ground::Exit;

use super::Outcome;
use crate::failure::Failure;

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Command of the page, such as `schedule install` [default: the program's own page]
    pub command: Vec<String>,
    /// Write the pages of all commands into this existing directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub directory: Option<PathBuf>,
}

/// Prints a manual page, or writes all of them.
pub fn man(mut command_line: clap::Command, args: &Man) -> Outcome {
    if let Some(directory) = &args.directory {
        clap_mangen::generate_to(command_line, directory)
            .map_err(|error| Failure::usage(format!("{}: {error}", directory.display())))?;
        return Ok(Exit::Done);
    }
    command_line.build();
    let mut page = &command_line;
    for word in &args.command {
        page = page
            .find_subcommand(word)
            .ok_or_else(|| Failure::usage(format!("unknown command `{word}`")))?;
    }
    clap_mangen::Man::new(page.clone()).render(&mut std::io::stdout())?;
    Ok(Exit::Done)
}
