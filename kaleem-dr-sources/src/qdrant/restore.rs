//! Restoring: everything to new names, then a comparison point by point, and only then a change to
//! collections in use.
//!
//! A failed upload to a collection can destroy it, so nothing is ever uploaded to an existing one.
//! A collection that is used through aliases is replaced by switching them, in one step that can be
//! undone; the old one stays. Only a collection without aliases is deleted in favour of its
//! successor, once a verified copy exists.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use kaleem_dr_core::{
    ground::{SourceError, error_chain},
    recovery::{
        point::PointReader,
        source::{
            Change, Existing, Extras, PlannedAction, Rename, RestorePlan, RestoreReport,
            RestoreRequest, RestoreTarget,
        },
    },
};
use serde_json::json;

use super::{
    client::QdrantClient,
    compare::{Comparison, Means},
    contents::Contents,
    description::Points,
    load::Loader,
    nodes::Nodes,
    placement::{Live, Placement, Then, place},
    switch::{self, AliasChange},
    version::{self, Fit},
};

/// A restore whose names are decided.
pub(super) struct Restoration<'a> {
    nodes: &'a Nodes<'a>,
    engine: Option<&'a Path>,
    /// The engine, if points are written instead of files.
    pub(super) by_points: Option<&'a Path>,
    pub(super) client: &'a QdrantClient,
    pub(super) point: &'a PointReader,
    request: RestoreRequest,
    pub(super) placements: Vec<Placement>,
    changes: Vec<AliasChange>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Restoration<'a> {
    /// Reads the point and the server, and decides targets. Writes nothing.
    ///
    /// # Errors
    /// If the restore is impossible: incompatible versions, or names that are taken.
    pub(super) async fn prepare(
        nodes: &'a Nodes<'a>,
        point: &'a PointReader,
        mut request: RestoreRequest,
        engine: Option<&'a Path>,
    ) -> Result<Self, SourceError> {
        if request.existing != Existing::Replace {
            return Err(SourceError::Unsupported(
                "Qdrant restores only whole collections, so nothing can be merged into one: leave out --existing"
                    .into(),
            ));
        }
        if request.extras == Extras::Remove {
            return Err(SourceError::Unsupported(
                "a restore never removes collections that are not in the point: leave out --extras"
                    .into(),
            ));
        }
        let client = nodes.main;
        let server = client.version().await?;
        let captured = point.manifest().server.as_ref().map(|server| server.version.as_str());
        let (mut warnings, mut by_points) = (Vec::new(), None);
        match (version::fit(captured, &server.version), engine) {
            (Fit::Files, _) => {}
            (Fit::Unknown(why), _) => warnings.push(why),
            (Fit::Refused(_), Some(program)) => {
                by_points = Some(program);
                warnings.push(format!(
                    "the server is Qdrant {}, which does not accept the files: Qdrant's engine reads their points, and these are written one by one, which takes longer",
                    server.version
                ));
            }
            (Fit::Refused(why), None) => {
                return Err(SourceError::Refused(format!(
                    "{why}; or set `engine`, which reads the points so that they can be written one by one"
                )));
            }
        }
        let mut contents = Contents::read(point).await?;
        contents.select(&request.only)?;
        for stored in &contents.collections {
            if stored.description.is_sharded_by_key() {
                stored.description.shard_keys()?;
            }
            if let (Points::Nothing { why, .. }, None) = (&stored.description.points, engine) {
                warnings.push(format!(
                    "collection {}: its points cannot be compared afterwards: {why}",
                    stored.name()
                ));
            }
        }
        let live = Live {
            collections: client.collections().await?.into_iter().collect(),
            aliases: client
                .aliases()
                .await?
                .into_iter()
                .map(|alias| (alias.alias_name, alias.collection_name))
                .collect(),
        };
        let stamp = Timestamp::now().strftime("%Y%m%d_%H%M%S").to_string();
        let (placements, changes) = place(contents, &live, &request.to, &request.rename, &stamp)?;
        // Fixed now, so that the restore uses the names of the plan.
        request.rename = placements
            .iter()
            .filter(|placement| placement.target != placement.stored.name())
            .map(|placement| {
                Rename::new(placement.stored.name().to_owned(), placement.target.clone())
            })
            .collect();
        warnings.extend(nodes.unreached().into_iter().map(|peer| {
            format!(
                "{peer} is not reached: shards that Qdrant places only there cannot be restored, and replicas there are filled once it is back: {}",
                nodes.advice()
            )
        }));
        Ok(Self { nodes, engine, by_points, client, point, request, placements, changes, warnings })
    }

    /// Describes what the restore will do.
    #[must_use]
    pub(super) fn plan(&self) -> RestorePlan {
        let mut warnings = self.warnings.clone();
        let mut actions = Vec::new();
        for Placement { stored, target, then } in &self.placements {
            let name = stored.name();
            actions.push(
                PlannedAction::new(Change::Create, format!("collection {target}"))
                    .with_items(stored.description.points.about())
                    .with_size(stored.size_bytes()),
            );
            match then {
                Then::Stays => {}
                Then::IsReached => {
                    actions.push(PlannedAction::new(Change::Leave, format!("collection {name}")).because("it stays unchanged; delete it when you are satisfied with the restored one"
                                ));
                    warnings
                        .push(format!("clients that use the name {name} directly, instead of an alias, still get the old data"));
                }
                Then::Replaces => {
                    actions.push(PlannedAction::new(Change::Overwrite, format!("collection {name}")).because(format!("it has no alias: it is deleted and recreated, once {target} is found equal")));
                    warnings.push(format!("{name} is unavailable while it is recreated; an alias for it would avoid this"));
                }
            }
        }
        actions.extend(self.changes.iter().map(|change| {
            let (kind, why) = match &change.from {
                Some(from) => (
                    Change::Overwrite,
                    format!("it refers to {from} now, and to {} afterwards", change.to),
                ),
                None => (Change::Create, format!("for collection {}", change.to)),
            };
            PlannedAction::new(kind, format!("alias {}", change.alias)).because(why)
        }));
        RestorePlan::new(self.request.clone(), self.target(), actions, warnings)
    }

    pub(super) fn target(&self) -> String {
        let server = self.client.server();
        match (&self.request.to, &self.placements[..]) {
            (RestoreTarget::InPlace, _) => format!("the collections in use on {server}"),
            (RestoreTarget::Beside(_), [only]) => format!("collection {} on {server}", only.target),
            (RestoreTarget::Beside(_), all) => format!("{} new collections on {server}", all.len()),
        }
    }

    /// Executes the restore if nothing has changed since the plan.
    ///
    /// # Errors
    /// If a step failed; then everything that was created is removed again, and aliases are as they
    /// were.
    pub(super) async fn run(self, planned: &[PlannedAction]) -> Result<RestoreReport, SourceError> {
        if self.plan().actions != planned {
            return Err(SourceError::Refused(format!(
                "collections or aliases of {} have changed since the restore was planned; plan it again",
                self.client.server()
            )));
        }
        let mut loader = Loader::new(self.nodes, self.point, self.by_points);
        match self.carry_out(&mut loader).await {
            Ok(report) => Ok(report),
            Err(error) => Err(loader.remove_all(error).await),
        }
    }

    async fn carry_out(&self, loader: &mut Loader<'_>) -> Result<RestoreReport, SourceError> {
        let mut report = RestoreReport::to(self.target());
        report.warnings.clone_from(&self.warnings);
        let mut points = BTreeMap::new();
        for placement in &self.placements {
            let found = self.restore_one(placement, &placement.target, loader).await?;
            let end = if placement.then == Then::Replaces {
                placement.stored.name()
            } else {
                &placement.target
            };
            points.insert(end.to_owned(), found.points);
            add(&mut report, placement, found);
        }
        if self.request.to == RestoreTarget::InPlace {
            self.put_in_use(&mut report, &points, loader).await?;
        } else if !report.differences.is_empty() {
            report.warnings.push(format!(
                "the new collections are kept for inspection; not equal to the point: {}",
                self.targets()
            ));
        }
        Ok(report)
    }

    async fn put_in_use(
        &self,
        report: &mut RestoreReport,
        points: &BTreeMap<String, u64>,
        loader: &mut Loader<'_>,
    ) -> Result<(), SourceError> {
        if !report.differences.is_empty() {
            report.warnings.push(format!(
                "no alias was switched and no collection replaced, because the restored data differ from the point; they are kept for inspection as {}",
                self.targets()
            ));
            return Ok(());
        }
        for placement in self.placements.iter().filter(|placement| placement.then == Then::Replaces)
        {
            self.replace(placement, report, loader).await?;
        }
        if self.changes.is_empty() {
            return Ok(());
        }
        if let Err(failed) = switch::switch(self.client, &self.changes, points).await {
            if !failed.is_undone {
                self.placements.iter().for_each(|placement| loader.keep(&placement.target));
            }
            return Err(failed.error);
        }
        report
            .compared
            .push(format!("{} aliases, and the points that they lead to", self.changes.len()));
        report.warnings.push(format!(
            "to restore the previous aliases, send {}",
            switch::by_hand(&self.changes)
        ));
        for placement in
            self.placements.iter().filter(|placement| placement.then == Then::IsReached)
        {
            let name = placement.stored.name();
            report.warnings.push(format!(
                "the old collection {name} still exists; delete it when you are satisfied with {}",
                placement.target
            ));
        }
        Ok(())
    }

    /// Gives the name of a collection to its verified successor. Qdrant cannot rename collections,
    /// so the snapshot is uploaded again.
    async fn replace(
        &self,
        placement: &Placement,
        report: &mut RestoreReport,
        loader: &mut Loader<'_>,
    ) -> Result<(), SourceError> {
        let (name, copy) = (placement.stored.name(), &placement.target);
        if self.point.cancellation().is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        // From here on the verified copy may be the only one.
        loader.keep(copy);
        if let Err(error) = self.client.delete_collection(name).await {
            let why = format!(
                "{}; the copy {copy} was found equal to the point, and is kept",
                error_chain(&error)
            );
            return Err(self.client.failed(&format!("put {name} in place"), why));
        }
        let replaced = match self.restore_one(placement, name, loader).await {
            Ok(found) if found.differences.is_empty() => Ok(()),
            Ok(found) => {
                Err(format!("it is not equal to the point: {}", found.differences[0].what))
            }
            Err(error) => Err(error_chain(&error)),
        };
        let Err(why) = replaced else {
            loader.keep(name);
            if let Err(error) = loader.remove(copy).await {
                report.warnings.push(format!(
                    "the copy {copy} is no longer needed, but could not be deleted: {}",
                    error_chain(&error)
                ));
            }
            return Ok(());
        };
        let stand_in = async {
            loader.remove(name).await?;
            let action = json!({ "create_alias": { "collection_name": copy, "alias_name": name } });
            self.client.change_aliases(&[action]).await
        };
        let outcome = match stand_in.await {
            Ok(()) => {
                format!("the alias {name} now refers to {copy}, which was found equal to the point")
            }
            Err(error) => {
                format!(
                    "{copy} was found equal to the point, but no alias {name} refers to it: {}",
                    error_chain(&error)
                )
            }
        };
        Err(self.client.failed(&format!("put {name} in place"), format!("{why}; {outcome}")))
    }

    pub(super) async fn restore_one(
        &self,
        placement: &Placement,
        target: &str,
        loader: &mut Loader<'_>,
    ) -> Result<Comparison, SourceError> {
        if self.point.cancellation().is_cancelled() {
            return Err(SourceError::Cancelled);
        }
        loader.load(&placement.stored, target).await?;
        self.compare(placement, target).await
    }

    /// Compares a restored collection with the point.
    pub(super) async fn compare(
        &self,
        placement: &Placement,
        target: &str,
    ) -> Result<Comparison, SourceError> {
        let means = Means { is_same_release: self.by_points.is_none(), engine: self.engine };
        Comparison::of(self.client, self.point, &placement.stored, target, means).await
    }

    fn targets(&self) -> String {
        self.placements
            .iter()
            .map(|placement| placement.target.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

pub(super) fn add(report: &mut RestoreReport, placement: &Placement, found: Comparison) {
    report.items += found.points;
    report.size_bytes += placement.stored.size_bytes();
    report.compared.extend(found.compared);
    report.differences.extend(found.differences);
    report.uncompared.extend(found.uncompared);
}
