//! `runbook`.

use clap::Args;
use kaleem_dr_core::ground::{Exit, language::Language};

use super::Outcome;
use crate::{context::Context, output::line};

/// Arguments of `runbook`.
#[derive(Debug, Args)]
pub struct Runbook {
    /// Language of the instructions: en or ar
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = crate::values::language(), hide_possible_values = true)]
    pub lang: Language,
}

pub fn runbook(context: &Context, args: &Runbook) -> Outcome {
    line(context.load()?.runbook().text(args.lang).trim_end())?;
    Ok(Exit::Done)
}
