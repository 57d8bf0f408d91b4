//! A restore of definitions: selection, plan, import and comparison.
//!
//! [`Import::prepare`] selects what to send, [`Import::plan`] describes the effect,
//! [`Import::send`] sends it, and [`Import::report`] compares the result. RabbitMQ's import is a
//! merge that never deletes, and it silently ignores exchanges and queues that exist with other
//! arguments; only the comparison detects that.

use std::collections::{BTreeMap, BTreeSet};

use kaleem_dr_core::{
    ground::SourceError,
    recovery::source::{
        Change, Difference, PlannedAction, RestorePlan, RestoreReport, RestoreRequest,
        RestoreTarget, Uncompared,
    },
};
use serde_json::Value;

use super::{
    client::ManagementClient,
    definitions::{Definitions, FieldDifference, Kind, Standing},
    fit::{Fitted, fit},
    target::Target,
};

/// RabbitMQ's default limit for a request body (`management.http.max_body_size`), in bytes.
const BODY_LIMIT_BYTES: usize = 20_000_000;

/// The definitions that a restore sends to a server.
#[derive(Clone, Debug)]
pub struct Import {
    /// The target, with its name resolved.
    to: RestoreTarget,
    target: String,
    definitions: Definitions,
    not_restored: Vec<Uncompared>,
    warnings: Vec<String>,
}

impl Import {
    /// Selects what to send to `server`, whose current definitions are `live`, and fits it to its
    /// release and plugins.
    ///
    /// In place, everything is sent except the user that performs the import, whose password must not change while we use
    /// it. Otherwise, virtual hosts get new names: `name` for the only one with content, or `name`
    /// for `/` and `name.<virtual host>` for the others.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if a virtual host with such a name already exists, or if the server
    /// lacks a plugin that the definitions need.
    pub fn prepare(
        point: &Definitions,
        live: &Definitions,
        to: &RestoreTarget,
        server: &Target,
    ) -> Result<Self, SourceError> {
        match to {
            RestoreTarget::InPlace => Self::in_place(point, live, server),
            RestoreTarget::Beside(name) => {
                let name = name.clone().unwrap_or_else(|| {
                    format!("kaleem_restored_{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))
                });
                Self::beside(point, live, server, name)
            }
        }
    }

    fn in_place(
        point: &Definitions,
        live: &Definitions,
        server: &Target,
    ) -> Result<Self, SourceError> {
        let acting = server.username.as_str();
        let mut warnings = Vec::new();
        if point.against(live).any(|(identity, standing)| {
            identity.is_user(acting) && matches!(standing, Standing::Different(_))
        }) {
            warnings.push(format!(
                "user {acting} performs the restore, so it stays unchanged on the server; the point has another password or other \
                 tags for it"
            ));
        }
        let wanted = point.filtered(|identity| !identity.is_user(acting));
        let fitted = fit(wanted, live, server, true)?;
        let target = format!("the definitions of {}", server.address);
        Ok(Self::of(RestoreTarget::InPlace, target, fitted, warnings))
    }

    fn of(to: RestoreTarget, target: String, fitted: Fitted, mut warnings: Vec<String>) -> Self {
        warnings.extend(fitted.warnings);
        let Fitted { definitions, not_restored, .. } = fitted;
        Self { to, target, definitions, not_restored, warnings }
    }

    fn beside(
        point: &Definitions,
        live: &Definitions,
        server: &Target,
        name: String,
    ) -> Result<Self, SourceError> {
        let names = new_names(point, &name);
        let taken: Vec<_> =
            names.values().filter(|name| live.has_vhost(name)).map(String::as_str).collect();
        if !taken.is_empty() {
            return Err(already_there(&server.address, &taken));
        }
        let renamed = point.renamed(&names).map_err(|error| SourceError::Point(error.into()))?;
        let mut definitions = renamed.filtered(|identity| !Definitions::moves_messages(identity));
        let mut warnings = vec![
            "users, permissions and global parameters belong to the whole server; a restore to new virtual hosts leaves them alone".to_owned(),
        ];
        let held_back = renamed.len() - definitions.len();
        if held_back > 0 {
            warnings.push(format!(
                "{held_back} parameters of shovels and federation are left out: in a second virtual host they would start to move messages"
            ));
        }
        if unprotect(&mut definitions) {
            warnings.push(
                "the new virtual hosts are not protected from deletion, although the point's are"
                    .into(),
            );
        }
        let fitted = fit(definitions, live, server, false)?;
        let vhosts: Vec<_> = names.values().map(String::as_str).collect();
        let target = format!("new virtual host {} on {}", vhosts.join(", "), server.address);
        Ok(Self::of(RestoreTarget::Beside(Some(name)), target, fitted, warnings))
    }

    /// The definitions to be sent.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Describes the effect of sending them. Overwritten definitions are listed; the others are
    /// counted by kind and virtual host.
    #[must_use]
    pub fn plan(&self, live: &Definitions) -> RestorePlan {
        let mut warnings = self.warnings.clone();
        warnings.extend(
            self.not_restored
                .iter()
                .map(|left| format!("not restored: {}: {}", left.what, left.why)),
        );
        let mut actions = Vec::new();
        let mut counts = BTreeMap::<(Fate, Kind, Option<&str>), u64>::new();
        for (identity, standing) in self.definitions.against(live) {
            let fate = match standing {
                Standing::Missing => Fate::Created,
                Standing::Equal => Fate::Equal,
                // A restore to new virtual hosts leaves all others alone; listing them would hide
                // its actual effect.
                Standing::Extra if matches!(self.to, RestoreTarget::Beside(_)) => continue,
                Standing::Extra => Fate::Extra,
                Standing::Different(fields) => {
                    let (change, why) = if identity.kind().is_immutable() {
                        let why = "RabbitMQ ignores it in an import and still reports success: it stays unchanged until it is deleted";
                        (Change::Conflict, format!("{}; {why}", differing(&fields)))
                    } else {
                        (Change::Overwrite, differing(&fields))
                    };
                    let action = PlannedAction::new(change, identity.to_string());
                    actions.push(action.with_items(1).because(why));
                    continue;
                }
            };
            *counts.entry((fate, identity.kind(), identity.vhost())).or_default() += 1;
        }
        actions.extend(counts.into_iter().map(|((fate, kind, vhost), items)| {
            let noun = kind.noun(items > 1);
            let what = match vhost {
                None => format!("{noun}{}", fate.remark()),
                Some(vhost) if kind == Kind::Vhosts => format!("{noun} {vhost}{}", fate.remark()),
                Some(vhost) => format!("{noun} in {vhost}{}", fate.remark()),
            };
            PlannedAction::new(fate.change(), what).with_items(items)
        }));
        let size_bytes = self.definitions.to_bytes().len();
        if size_bytes > BODY_LIMIT_BYTES {
            warnings.push(format!(
                "the definitions have {size_bytes} bytes, but RabbitMQ accepts at most {BODY_LIMIT_BYTES} unless \
                 `management.http.max_body_size` is raised"
            ));
        }
        RestorePlan::new(
            RestoreRequest::whole(self.to.clone()),
            self.target.clone(),
            actions,
            warnings,
        )
    }

    /// Sends the definitions, reads everything back and compares.
    ///
    /// # Errors
    /// If the server cannot be reached or rejects the request. RabbitMQ keeps what it imported
    /// before an error: in place it stays, and a second attempt overwrites it; new virtual hosts
    /// are deleted.
    pub async fn send(&self, client: &ManagementClient) -> Result<RestoreReport, SourceError> {
        match self.to {
            RestoreTarget::InPlace => client.import(&self.definitions).await?,
            RestoreTarget::Beside(_) => {
                let mut made = Vec::new();
                if let Err(error) = self.send_beside(client, &mut made).await {
                    delete_vhosts(client, &made).await;
                    return Err(error);
                }
            }
        }
        Ok(self.report(&client.definitions().await?))
    }

    /// Creates the virtual hosts one by one before the import, because only this distinguishes ours
    /// from one that another client has created since the plan.
    async fn send_beside<'a>(
        &'a self,
        client: &ManagementClient,
        made: &mut Vec<&'a str>,
    ) -> Result<(), SourceError> {
        for vhost in self.definitions.vhosts() {
            if !client.create_vhost(vhost).await? {
                return Err(already_there(client.server(), &[vhost]));
            }
            made.push(vhost);
        }
        client.import(&self.definitions).await
    }

    /// Compares what was sent with what the server has afterwards.
    #[must_use]
    pub fn report(&self, live: &Definitions) -> RestoreReport {
        let mut equal = BTreeMap::<Kind, u64>::new();
        let mut differences = Vec::new();
        for (identity, standing) in self.definitions.against(live) {
            match standing {
                Standing::Extra => {}
                Standing::Equal => *equal.entry(identity.kind()).or_default() += 1,
                Standing::Missing => {
                    differences.push(Difference::new(identity.to_string(), "there", "missing"));
                }
                Standing::Different(fields) => {
                    differences.extend(fields.into_iter().map(|field| {
                        Difference::new(
                            format!("{identity}: {}", field.field),
                            field.wanted,
                            field.found,
                        )
                    }));
                }
            }
        }
        let mut report = RestoreReport::to(self.target.as_str());
        report.items = self.definitions.len();
        report.size_bytes = self.definitions.to_bytes().len() as u64;
        report.compared = equal
            .into_iter()
            .map(|(kind, count)| format!("{count} {}", kind.noun(count > 1)))
            .collect();
        report.differences = differences;
        report.warnings.clone_from(&self.warnings);
        report.not_restored.clone_from(&self.not_restored);
        report
    }
}

/// Lists the fields that differ: `exists with other arguments, durable`.
fn differing(fields: &[FieldDifference]) -> String {
    let fields: Vec<_> = fields.iter().map(|difference| difference.field.as_str()).collect();
    format!("exists with other {}", fields.join(", "))
}

fn already_there(server: &str, vhosts: &[&str]) -> SourceError {
    SourceError::Refused(format!(
        "{server} already has a virtual host {}; choose another name for the restore",
        vhosts.join(", ")
    ))
}

/// Removes the protection of virtual hosts from deletion: a copy must be removable. Reports whether
/// there was one.
fn unprotect(definitions: &mut Definitions) -> bool {
    let mut any = false;
    for (_, vhost) in definitions.of_kind_mut(Kind::Vhosts) {
        let mut remove = |fields: &mut serde_json::Map<String, Value>| {
            any |= fields.remove("protected_from_deletion") == Some(Value::Bool(true));
        };
        remove(vhost);
        if let Some(Value::Object(metadata)) = vhost.get_mut("metadata") {
            remove(metadata);
        }
    }
    any
}

async fn delete_vhosts(client: &ManagementClient, vhosts: &[&str]) {
    for vhost in vhosts {
        match client.delete_vhost(vhost).await {
            Ok(()) => tracing::info!(vhost, "deleted the virtual host of a failed restore"),
            Err(error) => {
                tracing::warn!(vhost, %error, "cannot delete the virtual host of a failed restore");
            }
        }
    }
}

/// The plan for a definition that is not overwritten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Created,
    Equal,
    Extra,
}

impl Fate {
    fn change(self) -> Change {
        if self == Self::Created { Change::Create } else { Change::Leave }
    }

    fn remark(self) -> &'static str {
        match self {
            Self::Created => "",
            Self::Equal => ", equal already",
            Self::Extra => ", not in the point",
        }
    }
}

/// The new name of each virtual host in a restore to new virtual hosts.
fn new_names(point: &Definitions, name: &str) -> BTreeMap<String, String> {
    let all: BTreeSet<_> = point.vhosts().collect();
    let mut filled: BTreeSet<_> =
        point.topology_vhosts().filter(|vhost| all.contains(vhost)).collect();
    if filled.is_empty() {
        filled = all;
    }
    let only_one = filled.len() == 1;
    let renamed = |vhost: &str| {
        if only_one || vhost == "/" { name.to_owned() } else { format!("{name}.{vhost}") }
    };
    filled.into_iter().map(|vhost| (vhost.to_owned(), renamed(vhost))).collect()
}

#[cfg(test)]
mod tests;
