//! A rehearsal: imports definitions into scratch virtual hosts, compares them, and deletes the
//! virtual hosts whatever the outcome.
//!
//! The negative control deletes one definition from the scratch and reads it back again.

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

/// The prefix of every scratch virtual host; none without it is ever deleted here.
const PREFIX: &str = "kdr_drill_";

/// Imports a point into virtual hosts with the scratch name, compares, and deletes them.
pub(super) async fn rehearse(
    client: &ManagementClient,
    point: &Definitions,
    scratch: &ScratchTarget,
) -> Result<RestoreReport, SourceError> {
    client.check_rights().await?;
    let (live, target) = tokio::try_join!(client.definitions(), client.target())?;
    let to = RestoreTarget::Beside(Some(scratch.name.clone()));
    let import = Import::prepare(point, &live, &to, &target)?;
    // If the import fails, it removes itself what it sent.
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

/// Deletes one definition and compares again. `None` if the virtual hosts are empty.
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
    Ok(Some(Control::new(format!("deleted {label}"), found, began.elapsed().as_secs_f64())))
}

/// Deletes the virtual hosts that a killed rehearsal with this name left behind.
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
        "the virtual host {vhost} is not a scratch virtual host: their names begin with {PREFIX}"
    )))
}
