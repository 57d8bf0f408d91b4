//! `checklist`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::{
    ground::language::Language,
    operate::{
        checklist::{Inspection, Period, go_through},
        doctor::Host,
    },
};

use super::Outcome;
use crate::{context::Context, output};

/// Which list, and in which language.
#[derive(Debug, Args)]
pub struct Checklist {
    /// daily, weekly or monthly
    pub period: Period,
    /// Language of the lines
    #[arg(long, value_name = "LANG", default_value = "en")]
    pub lang: Language,
}

pub async fn checklist(context: &Context, args: &Checklist) -> Outcome {
    let loaded = context.read_config()?;
    let primary = context.chosen(&loaded)?.0.clone();
    let job = Inspection {
        config: loaded.config,
        environment: loaded.environment,
        primary,
        host: Host::this(PathBuf::from("/")),
        last_scheduled: None,
    };
    let list = go_through(args.period, &job).await;
    output::checklist::list(&list, args.lang == Language::Ar, context.global.json)?;
    Ok(list.exit())
}
