//! A range of a collection in the order of `_id`.

use bson::{Bson, Document, doc};

/// A part of a collection in the order of `_id`, with an inclusive lower and an exclusive upper
/// bound. `None` is unbounded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Range {
    pub(crate) from: Option<Bson>,
    pub(crate) to: Option<Bson>,
}

impl Range {
    /// Adds the bounds to a `find`.
    pub(crate) fn put_into(&self, find: &mut Document) {
        find.insert("hint", doc! { "_id": 1 });
        for (bound, id) in [("min", &self.from), ("max", &self.to)] {
            if let Some(id) = id {
                find.insert(bound, doc! { "_id": id });
            }
        }
    }
}

/// The ranges between cuts, which are in the server's sort order.
pub(crate) fn between(cuts: Vec<Bson>) -> Vec<Range> {
    let mut ranges = vec![Range::default()];
    for cut in cuts {
        if let Some(last) = ranges.last_mut() {
            last.to = Some(cut.clone());
        }
        ranges.push(Range { from: Some(cut), to: None });
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_leave_no_gap_and_are_open_at_both_ends() {
        assert_eq!(between(vec![]), [Range::default()]);
        let ranges = between(vec![Bson::Int32(3), Bson::String("a".into())]);
        let text = Some(Bson::String("a".into()));
        assert_eq!(
            ranges,
            [
                Range { from: None, to: Some(Bson::Int32(3)) },
                Range { from: Some(Bson::Int32(3)), to: text.clone() },
                Range { from: text, to: None },
            ]
        );
        let mut find = doc! { "find": "c", "hint": { "$natural": 1 } };
        ranges[0].put_into(&mut find);
        assert_eq!(find, doc! { "find": "c", "hint": { "_id": 1 }, "max": { "_id": 3 } });
    }
}
