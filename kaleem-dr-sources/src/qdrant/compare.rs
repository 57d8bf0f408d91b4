//! Compares a restored collection with its description in the point.

use kaleem_dr_core::{
    ground::{SourceError, progress::Unit},
    recovery::{
        point::PointReader,
        source::{Difference, Uncompared},
    },
};

use super::{
    client::QdrantClient,
    contents::Stored,
    description::{Description, Points},
    layout::list,
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

impl Comparison {
    /// Reads `target` back and compares it. Settings that only one of two releases has are no
    /// difference.
    pub(super) async fn of(
        client: &QdrantClient,
        point: &PointReader,
        stored: &Stored,
        target: &str,
        is_same_release: bool,
    ) -> Result<Self, SourceError> {
        let description = &stored.description;
        let live = client.describe(target).await?;
        let live = live.ok_or_else(|| {
            client.failed(&format!("describe collection {target}"), "it does not exist")
        })?;
        let mut comparison = Self::default();
        if is_same_release {
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
        comparison.compare_points(client, point, stored, target).await?;
        Ok(comparison)
    }

    async fn compare_points(
        &mut self,
        client: &QdrantClient,
        point: &PointReader,
        stored: &Stored,
        target: &str,
    ) -> Result<(), SourceError> {
        let name = stored.name();
        self.points = client.count(target).await?;
        let points = &stored.description.points;
        if let Points::Nothing { why, about } = points {
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
        let expected = points.count().unwrap_or_default();
        let mut differs = differ("points", expected.to_string(), self.points.to_string());
        let Some(digest) = points.content_digest() else {
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
        differs |= differ("content digest", digest.to_owned(), content.digest);
        if !differs {
            self.compared.push(format!(
                "{expected} points of collection {name}, every id, vector and payload"
            ));
        }
        Ok(())
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
