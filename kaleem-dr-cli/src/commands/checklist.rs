//! `checklist`.

use std::path::PathBuf;

use clap::Args;
use kaleem_dr_core::{
    ground::language::Language,
    operate::{
        checklist::{self as library, Holds, Period},
        doctor::Host,
    },
};
use serde_json::json;

use super::Outcome;
use crate::{
    context::Context,
    output::{Printed, document, line},
};

/// Arguments of `checklist`.
#[derive(Debug, Args)]
pub struct Checklist {
    /// Checklist: daily, weekly or monthly
    #[arg(value_parser = crate::values::period(), hide_possible_values = true)]
    pub period: Period,
    /// Language of the items: en or ar
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = crate::values::language(), hide_possible_values = true)]
    pub lang: Language,
}

pub async fn checklist(context: &Context, args: &Checklist) -> Outcome {
    let host = Host::this(PathBuf::from("/"));
    let list = context.load()?.checklist(args.period, host).await?;
    print(&list, args.lang == Language::Ar, context.global.json)?;
    Ok(list.exit())
}

/// Prints each item with its mark, followed by its evidence.
fn print(list: &library::Checklist, in_arabic: bool, json: bool) -> Printed {
    if json {
        let mut document_of = serde_json::to_value(list)?;
        document_of["message_type"] = json!("checklist");
        document_of["exit_code"] = json!(list.exit().code());
        return document(&document_of);
    }
    for entry in &list.lines {
        let (mark, text) = if in_arabic {
            (arabic(entry.holds), entry.text.ar)
        } else {
            (english(entry.holds), entry.text.en)
        };
        line(&format!("{mark}  {text}"))?;
        for evidence in &entry.evidence {
            line(&format!("      {evidence}"))?;
        }
    }
    Ok(())
}

fn english(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "yes    ",
        Holds::No => "NO     ",
        Holds::Unknown => "UNKNOWN",
    }
}

fn arabic(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "نعم",
        Holds::No => "لا",
        Holds::Unknown => "غير معروف",
    }
}
