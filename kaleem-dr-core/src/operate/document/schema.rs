//! The schemas of documents.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use super::{
    BackupLine, Chained, DrillLine, Entry, Point, SnapshotLine, StatusLine, VerificationLine,
};
use crate::{
    engine::ledger::PastEvent,
    operate::{job::HostStatus, metrics::Value},
    recovery::change_log::RestorableSpan,
};

/// A document with a schema.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Document {
    /// Its name: the command that prints it, or the part of the API that answers with it.
    pub name: &'static str,
    schema: fn() -> Schema,
}

impl Document {
    /// A document that is a `T`.
    #[must_use]
    pub(crate) const fn of<T: JsonSchema>(name: &'static str) -> Self {
        Self { name, schema: schema_for::<T> }
    }

    /// Its schema, draft 2020-12.
    #[must_use]
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }
}

/// The documents that commands print with `--json`. Where a command prints several lines, the
/// schema is that of a line.
pub const DOCUMENTS: [Document; 12] = [
    Document::of::<BackupLine>("backup"),
    Document::of::<DrillLine>("drill"),
    Document::of::<Vec<PastEvent>>("history"),
    Document::of::<Entry>("ls"),
    Document::of::<Vec<Value>>("metrics"),
    Document::of::<Vec<Point>>("points"),
    Document::of::<Vec<RestorableSpan>>("points-moments"),
    Document::of::<Chained>("report"),
    Document::of::<Vec<SnapshotLine>>("snapshots"),
    Document::of::<Vec<StatusLine>>("status"),
    Document::of::<Vec<HostStatus>>("status-all-hosts"),
    Document::of::<VerificationLine>("verify"),
];

/// The schema of what a type is serialised to, draft 2020-12.
#[must_use]
pub fn schema_for<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_names_in_order_and_a_schema_that_describes_every_field() {
        let names: Vec<&str> = DOCUMENTS.iter().map(|document| document.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        for document in DOCUMENTS {
            let schema = document.schema().to_value();
            let mut undescribed = Vec::new();
            visit(&schema, &mut undescribed);
            assert!(undescribed.is_empty(), "{}: {undescribed:?}", document.name);
        }
    }

    /// Collects properties without a description.
    fn visit(schema: &serde_json::Value, undescribed: &mut Vec<String>) {
        let Some(object) = schema.as_object() else {
            schema.as_array().into_iter().flatten().for_each(|item| visit(item, undescribed));
            return;
        };
        if let Some(properties) = object.get("properties").and_then(|of| of.as_object()) {
            for (name, property) in properties {
                let is_described =
                    ["description", "const"].iter().any(|key| property.get(key).is_some());
                if !is_described {
                    undescribed.push(name.clone());
                }
            }
        }
        object.values().for_each(|value| visit(value, undescribed));
    }
}
