//! The work that a recovery leaves for a source, with the commands for it.

use super::super::Site;
use crate::{
    ground::Exit,
    operate::recover::{Left, Recover},
    recovery::drill::SourceDrill,
};

/// The remaining work for a source; `None` if it is recovered.
pub(super) fn left_of_source(site: &Site, wanted: &Recover, line: &SourceDrill) -> Option<Left> {
    if line.exit == Exit::Done {
        return None;
    }
    let name = &line.source;
    let found = line.verification.as_ref();
    let finding = || Some(found?.findings.first()?.to_string());
    let missing = || {
        let first = found?.incomplete.first()?;
        Some(format!("{} is missing: {}", first.what, first.why))
    };
    let why = line
        .error
        .clone()
        .or_else(finding)
        .or_else(missing)
        .unwrap_or_else(|| "it is not equal to what was captured".to_owned());
    let form = if wanted.in_place { "" } else { " --beside" };
    let again = format!("kaleem-dr recover{form}");
    let commands = match line.exit {
        Exit::Unreachable => {
            vec![format!("kaleem-dr probe   # until {name} can be reached"), again]
        }
        Exit::Refused => vec![format!("kaleem-dr recover{form} --only {name}")],
        Exit::Usage => vec!["kaleem-dr config check".to_owned(), again],
        _ => {
            let mut commands = vec![
                "kaleem-dr check --read-data".to_owned(),
                format!(
                    "kaleem-dr points   # an older one: kaleem-dr recover{form} --only {name} --point RUN"
                ),
                again,
            ];
            let repositories = &site.config.settings.repository;
            let mirror = repositories.iter().find(|(_, settings)| settings.mirror_of.is_some());
            if let Some((mirror, _)) = mirror {
                commands.insert(1, format!("kaleem-dr repair --from {mirror} --missing"));
            }
            commands
        }
    };
    Some(Left::new(format!("source {name}"), why, commands))
}
