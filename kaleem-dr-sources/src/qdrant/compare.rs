//! Compares a restored collection with its description in the point.

use std::path::Path;

use kaleem_dr_core::{
    ground::{SourceError, error_chain, progress::Unit},
    recovery::{
        point::PointReader,
        source::{Difference, Uncompared},
    },
};

use super::{
    client::QdrantClient,
    contents::Stored,
    description::{Description, Points},
    engine,
    layout::list,
    points::Content,
    shards::in_words,
};

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) points: u64,
    pub(super) compared: Vec<String>,
    pub(super) differences: Vec<Difference>,
    pub(super) uncompared: Vec<Uncompared>,
}

/// The circumstances of a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    /// The server's release has the same settings as the one that was captured.
    pub(super) is_same_release: bool,
    /// The program that reads the points of files, if there is one.
    pub(super) engine: Option<&'a Path>,
}

impl Comparison {
    /// Reads `target` back and compares it. Settings that only one of two releases has are no
    /// difference.
    pub(super) async fn of(
        client: &QdrantClient,
        point: &PointReader,
        stored: &Stored,
        target: &str,
        means: Means<'_>,
    ) -> Result<Self, SourceError> {
        let description = &stored.description;
        let live = client.describe(target).await?;
        let live = live.ok_or_else(|| {
            client.failed(&format!("describe collection {target}"), "it does not exist")
        })?;
        let mut comparison = Self::default();
        if means.is_same_release {
            comparison.differences = description.compare_settings(&live);
        } else {
            let (description, live, only_one) = description.known_to_both(&live);
            comparison.differences = description.compare_settings(&live);
            if !only_one.is_empty() {
                comparison.uncompared.push(Uncompared::new(
                    format!("settings of collection {}: {}", description.name, only_one.join(", ")),
                    "only one of the two releases has them",
                ));
            }
        }
        comparison.differences.extend(compare_shards(description, client, target).await?);
        if comparison.differences.is_empty() {
            comparison
                .compared
                .push(format!("settings, indexes and shards of collection {}", description.name));
        }
        comparison.compare_points(client, point, stored, target, means.engine).await?;
        Ok(comparison)
    }

    async fn compare_points(
        &mut self,
        client: &QdrantClient,
        point: &PointReader,
        stored: &Stored,
        target: &str,
        engine: Option<&Path>,
    ) -> Result<(), SourceError> {
        let name = stored.name();
        self.points = client.count(target).await?;
        let points = &stored.description.points;
        let captured = match (points.count(), points.content_digest()) {
            (Some(points), Some(digest)) => Some(Content { points, digest: digest.to_owned() }),
            _ => self.read_by_engine(point, stored, engine).await?,
        };
        if let (None, Points::Nothing { why, about }) = (&captured, points) {
            let about = about
                .map_or(String::new(), |about| format!(" (about {about} when it was captured)"));
            self.uncompared.push(Uncompared::new(
                format!("{} points of collection {name}{about}", self.points),
                why.clone(),
            ));
            return Ok(());
        }
        let mut differ = |what: &str, expected: String, found: String| {
            let differs = expected != found;
            if differs {
                self.differences.push(Difference::new(
                    format!("collection {name}: {what}"),
                    expected,
                    found,
                ));
            }
            differs
        };
        let counted = captured.as_ref().map(|content| content.points);
        let expected = counted.or(points.count()).unwrap_or_default();
        let mut differs = differ("points", expected.to_string(), self.points.to_string());
        let Some(captured) = captured else {
            if !differs {
                self.compared.push(format!("{expected} points of collection {name}, only counted"));
            }
            return Ok(());
        };
        let stage =
            point.progress().begin(&format!("compare {target}"), Unit::Items, Some(self.points));
        let content = client.content(target, &point.cancellation(), stage.as_ref()).await?;
        stage.finish();
        differs |= differ("points read", expected.to_string(), content.points.to_string());
        differs |= differ("content digest", captured.digest, content.digest);
        if !differs {
            self.compared.push(format!(
                "{expected} points of collection {name}, every id, vector and payload"
            ));
        }
        Ok(())
    }

    /// The content of the files according to Qdrant's engine, if the capture did not read it: it is
    /// certain even if the collection was written to meanwhile.
    async fn read_by_engine(
        &mut self,
        point: &PointReader,
        stored: &Stored,
        engine: Option<&Path>,
    ) -> Result<Option<Content>, SourceError> {
        let Some(program) = engine else { return Ok(None) };
        match engine::read_stored(point, stored, program).await? {
            Ok(content) => Ok(Some(content)),
            Err(why) => {
                self.uncompared.push(Uncompared::new(
                    format!("points of collection {} with its files", stored.name()),
                    format!("Qdrant's engine cannot read them: {}", error_chain(&*why)),
                ));
                Ok(None)
            }
        }
    }
}

/// The shards, by number; those of keys, by key, because Qdrant numbers them itself.
async fn compare_shards(
    description: &Description,
    client: &QdrantClient,
    target: &str,
) -> Result<Option<Difference>, SourceError> {
    let found = list(&client.layout(target).await?.shards);
    if description.match_shards(&found).is_ok() {
        return Ok(None);
    }
    let (expected, found) = (in_words(&description.shards), in_words(&found));
    let what = format!("collection {}: shards", description.name);
    Ok(Some(Difference::new(what, expected, found)))
}
