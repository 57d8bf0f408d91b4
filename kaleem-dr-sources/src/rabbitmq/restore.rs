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
        RestoreTarget,
    },
};

use super::{
    client::ManagementClient,
    definitions::{Definitions, FieldDifference, Kind, Standing},
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
    warnings: Vec<String>,
}

impl Import {
    /// Selects what to send to `server`, whose current definitions are `live`, as the user
    /// `acting`.
    ///
    /// In place, everything is sent except that user, whose password must not change while we use
    /// it. Otherwise, virtual hosts get new names: `name` for the only one with content, or `name`
    /// for `/` and `name.<virtual host>` for the others.
    ///
    /// # Errors
    /// [`SourceError::Refused`] if a virtual host with such a name already exists.
    pub fn prepare(
        point: &Definitions,
        live: &Definitions,
        to: &RestoreTarget,
        server: &str,
        acting: &str,
    ) -> Result<Self, SourceError> {
        match to {
            RestoreTarget::InPlace => Ok(Self::in_place(point, live, server, acting)),
            RestoreTarget::Beside(name) => {
                let name = name.clone().unwrap_or_else(|| {
                    format!("kaleem_restored_{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"))
                });
                Self::beside(point, live, server, name)
            }
        }
    }

    fn in_place(point: &Definitions, live: &Definitions, server: &str, acting: &str) -> Self {
        let mut warnings = Vec::new();
        if point.against(live).any(|(identity, standing)| {
            identity.is_user(acting) && matches!(standing, Standing::Different(_))
        }) {
            warnings.push(format!(
                "user {acting} performs the restore, so it stays unchanged on the server; the point has another password or other \
                 tags for it"
            ));
        }
        Self {
            to: RestoreTarget::InPlace,
            target: format!("the definitions of {server}"),
            definitions: point.filtered(|identity| !identity.is_user(acting)),
            warnings,
        }
    }

    fn beside(
        point: &Definitions,
        live: &Definitions,
        server: &str,
        name: String,
    ) -> Result<Self, SourceError> {
        let names = new_names(point, &name);
        let taken: Vec<_> =
            names.values().filter(|name| live.has_vhost(name)).map(String::as_str).collect();
        if !taken.is_empty() {
            return Err(already_there(server, &taken));
        }
        let renamed = point.renamed(&names).map_err(|error| SourceError::Point(error.into()))?;
        let definitions = renamed.filtered(|identity| !Definitions::moves_messages(identity));
        let mut warnings = vec![
            "users, permissions and global parameters belong to the whole server; a restore to new virtual hosts leaves them alone".to_owned(),
        ];
        let held_back = renamed.len() - definitions.len();
        if held_back > 0 {
            warnings.push(format!(
                "{held_back} parameters of shovels and federation are left out: in a second virtual host they would start to move messages"
            ));
        }
        let vhosts: Vec<_> = names.values().map(String::as_str).collect();
        let target = format!("new virtual host {} on {server}", vhosts.join(", "));
        Ok(Self { to: RestoreTarget::Beside(Some(name)), target, definitions, warnings })
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn definitions(vhosts: &[&str]) -> Value {
        json!({
            "users": [{"name": "admin", "password_hash": "a"}, {"name": "shop", "password_hash": "s"}],
            "vhosts": vhosts.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "queues": vhosts.iter().map(|vhost| json!({"name": "q", "vhost": vhost, "arguments": {}})).collect::<Vec<_>>(),
            "policies": [{"name": "p", "vhost": vhosts[0], "definition": {"max-length": 1}}],
        })
    }

    fn parse(document: &Value) -> Definitions {
        Definitions::parse(document.to_string().as_bytes()).unwrap()
    }

    fn empty() -> Definitions {
        parse(&json!({"vhosts": [{"name": "/"}]}))
    }

    fn beside(name: &str) -> RestoreTarget {
        RestoreTarget::Beside(Some(name.into()))
    }

    #[test]
    fn in_place_the_acting_user_stays_and_the_plan_says_so() {
        let point = parse(&definitions(&["/"]));
        let mut live = definitions(&["/"]);
        live["users"][0]["password_hash"] = "newer".into();
        live["users"][1]["password_hash"] = "newer".into();
        let live = parse(&live);
        let import =
            Import::prepare(&point, &live, &RestoreTarget::InPlace, "mq:1", "admin").unwrap();
        assert!(!String::from_utf8(import.definitions().to_bytes()).unwrap().contains("admin"));
        let plan = import.plan(&live);
        assert!(plan.warnings[0].starts_with("user admin performs the restore"), "{plan:?}");
        let overwritten: Vec<_> =
            plan.actions.iter().filter(|action| action.change == Change::Overwrite).collect();
        assert_eq!(overwritten.len(), 1);
        assert_eq!(overwritten[0].what, "user shop");
    }

    #[test]
    fn a_queue_with_other_arguments_is_a_conflict_before_and_a_difference_after() {
        let point = parse(&definitions(&["/"]));
        let mut live = definitions(&["/"]);
        live["queues"][0]["arguments"] = json!({"x-max-priority": 3});
        let live = parse(&live);
        let import =
            Import::prepare(&point, &live, &RestoreTarget::InPlace, "mq:1", "admin").unwrap();
        let plan = import.plan(&live);
        assert!(!plan.overwrites(), "{plan:?}");
        let conflict =
            plan.actions.iter().find(|action| action.change == Change::Conflict).unwrap();
        assert_eq!(conflict.what, "queue q in /");
        assert!(
            conflict
                .why
                .as_ref()
                .unwrap()
                .starts_with("exists with other arguments; RabbitMQ ignores it"),
            "{plan:?}"
        );
        let report = import.report(&live);
        assert!(!report.is_equal());
        assert_eq!(report.differences[0].what, "queue q in /: arguments");
        assert_eq!(report.differences[0].found, r#"{"x-max-priority":3}"#);
    }

    #[test]
    fn what_the_server_lost_is_created_and_what_only_it_has_is_left() {
        let point = parse(&definitions(&["/", "shop"]));
        let live =
            parse(&json!({"vhosts": [{"name": "/"}], "queues": [{"name": "own", "vhost": "/"}]}));
        let plan = Import::prepare(&point, &live, &RestoreTarget::InPlace, "mq:1", "admin")
            .unwrap()
            .plan(&live);
        let lines: Vec<_> = plan
            .actions
            .iter()
            .map(|action| format!("{:?} {}", action.change, action.what))
            .collect();
        for line in [
            "Create virtual host shop",
            "Create queue in shop",
            "Leave virtual host /, equal already",
            "Leave queue in /, not in the point",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
        }
        assert!(!plan.overwrites());
    }

    #[test]
    fn one_new_virtual_host_takes_the_name_and_several_share_it() {
        let prepare = |vhosts: &[&str]| {
            let point = parse(&definitions(vhosts));
            let import =
                Import::prepare(&point, &empty(), &beside("copy"), "mq:1", "admin").unwrap();
            import.definitions().vhosts().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(prepare(&["shop"]), ["copy"]);
        assert_eq!(prepare(&["/", "shop"]), ["copy", "copy.shop"]);
        assert_eq!(prepare(&["a", "b"]), ["copy.a", "copy.b"]);
    }

    #[test]
    fn a_restore_to_a_new_virtual_host_leaves_out_what_would_move_messages_and_users() {
        let mut point = definitions(&["/"]);
        point["parameters"] = json!([
            {"vhost": "/", "component": "shovel", "name": "s", "value": {}},
            {"vhost": "/", "component": "federation-upstream", "name": "f", "value": {}},
            {"vhost": "/", "component": "operator_policy", "name": "o", "value": {}},
        ]);
        let import =
            Import::prepare(&parse(&point), &empty(), &beside("copy"), "mq:1", "admin").unwrap();
        assert_eq!(import.definitions().counts()["parameters"], 1);
        assert_eq!(import.definitions().counts()["users"], 0);
        assert!(
            import
                .plan(&empty())
                .warnings
                .iter()
                .any(|warning| warning.starts_with("2 parameters of shovels"))
        );
    }

    #[test]
    fn a_restore_to_a_new_virtual_host_never_uses_an_existing_one() {
        let live = parse(&json!({"vhosts": [{"name": "copy"}]}));
        let error =
            Import::prepare(&parse(&definitions(&["/"])), &live, &beside("copy"), "mq:1", "admin")
                .unwrap_err();
        assert!(
            matches!(&error, SourceError::Refused(why) if why.contains("virtual host copy")),
            "{error:?}"
        );
    }

    #[test]
    fn a_name_of_our_own_is_in_the_plan() {
        let import = Import::prepare(
            &parse(&definitions(&["/"])),
            &empty(),
            &RestoreTarget::Beside(None),
            "mq:1",
            "admin",
        )
        .unwrap();
        let RestoreTarget::Beside(Some(name)) = import.plan(&empty()).request.to else {
            panic!("no name in {import:?}")
        };
        assert!(name.starts_with("kaleem_restored_2"), "{name}");
    }
}
