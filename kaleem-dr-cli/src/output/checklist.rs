//! What `checklist` prints.

use kaleem_dr_core::operate::checklist::{Checklist, Holds};
use serde_json::json;

use super::{Printed, document, line};

/// Each line with its mark, and below it what shows it.
pub fn list(list: &Checklist, in_arabic: bool, json: bool) -> Printed {
    if json {
        let mut document_of = serde_json::to_value(list)?;
        document_of["message_type"] = json!("checklist");
        document_of["exit_code"] = json!(list.exit().code());
        return document(&document_of);
    }
    for entry in &list.lines {
        let (mark, text) = if in_arabic { (arabic(entry.holds), entry.text.ar) } else { (english(entry.holds), entry.text.en) };
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
