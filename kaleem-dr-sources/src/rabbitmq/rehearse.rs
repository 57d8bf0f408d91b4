//! A rehearsal: definitions imported into scratch virtual hosts, compared there, and the virtual hosts deleted whatever came of it.
//!
//! Its negative control: one definition is deleted from the scratch, which is read back once more.

use std::time::Instant;

use kaleem_dr_core::{
    ground::SourceError,
    recovery::source::{Control, RestoreReport, RestoreTarget, ScratchTarget},
};

use super::{
    client::ManagementClient,
    definitions::{Definitions, Kind},
    restore::Import,
};

/// Every scratch virtual host begins like this; nothing that does not is ever deleted here.
const PREFIX: &str = "kdr_drill_";

/// Imports a point beside, into virtual hosts of the scratch name, compares, and deletes them.
pub(super) async fn rehearse(
    client: &ManagementClient,
    point: &Definitions,
    scratch: &ScratchTarget,
) -> Result<RestoreReport, SourceError> {
    client.check_rights().await?;
    let live = client.definitions().await?;
    let to = RestoreTarget::Beside(Some(scratch.name.clone()));
    let import = Import::prepare(point, &live, &to, client.server(), client.username())?;
    // What was sent in part is removed by the import itself when it fails.
    let mut report = import.send(client).await?;
    scratch.filled();
    let controlled = if scratch.control && report.is_equal() {
        control(client, &import).await
    } else {
        Ok(None)
    };
    for vhost in import.definitions().vhosts() {
        delete(client, vhost).await?;
    }
    report.control = controlled?;
    Ok(report)
}

/// Deletes one definition and compares once more. `None` where there is nothing but empty virtual hosts.
async fn control(
    client: &ManagementClient,
    import: &Import,
) -> Result<Option<Control>, SourceError> {
    let began = Instant::now();
    let deletable =
        [(Kind::Queues, "queues"), (Kind::Exchanges, "exchanges"), (Kind::Policies, "policies")];
    let found = deletable.into_iter().find_map(|(kind, word)| {
        let (identity, definition) =
            import.definitions().iter().find(|(identity, _)| identity.kind() == kind)?;
        Some((word, identity.to_string(), identity.vhost()?, definition.get("name")?.as_str()?))
    });
    let Some((word, label, vhost, name)) = found else { return Ok(None) };
    refuse_foreign(vhost)?;
    client.delete_definition(word, vhost, name).await?;
    let found = import.report(&client.definitions().await?).differences;
    Ok(Some(Control {
        damage: format!("deleted {label}"),
        found,
        seconds: began.elapsed().as_secs_f64(),
    }))
}

/// Deletes the virtual hosts that a killed rehearsal of this name left.
pub(super) async fn clear(
    client: &ManagementClient,
    name: &str,
) -> Result<Vec<String>, SourceError> {
    let live = client.definitions().await?;
    let mut cleared = Vec::new();
    for vhost in
        live.vhosts().filter(|vhost| *vhost == name || vhost.starts_with(&format!("{name}.")))
    {
        delete(client, vhost).await?;
        cleared.push(format!("virtual host {vhost}"));
    }
    Ok(cleared)
}

async fn delete(client: &ManagementClient, vhost: &str) -> Result<(), SourceError> {
    refuse_foreign(vhost)?;
    client.delete_vhost(vhost).await
}

fn refuse_foreign(vhost: &str) -> Result<(), SourceError> {
    if vhost.starts_with(PREFIX) {
        return Ok(());
    }
    Err(SourceError::Refused(format!(
        "the virtual host {vhost} is no scratch: those begin with {PREFIX}"
    )))
}
