//! `runbook`.

use clap::Args;
use kaleem_dr_core::ground::{Exit, language::Language};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{document, line},
};

/// Arguments of `runbook`.
#[derive(Debug, Args)]
pub struct Runbook {
    /// Language of the instructions: en or ar
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = crate::values::language(), hide_possible_values = true)]
    pub lang: Language,
}

pub fn runbook(context: &Context, args: &Runbook) -> Outcome {
    let runbook = context.load()?.runbook();
    let text = runbook.text(args.lang);
    if context.global.json {
        document(&json!({ "message_type": "runbook", "language": args.lang, "markdown": text }))?;
    } else {
        line(text.trim_end())?;
    }
    Ok(Exit::Done)
}
