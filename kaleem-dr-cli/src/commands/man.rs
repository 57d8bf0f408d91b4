//! `man`.

use kaleem_dr_core::ground::Exit;

use super::Outcome;

/// Prints the manual page of this command line.
pub fn man(command_line: clap::Command) -> Outcome {
    clap_mangen::Man::new(command_line).render(&mut std::io::stdout())?;
    Ok(Exit::Done)
}
