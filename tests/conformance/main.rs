//! What every object store must do: one suite, which each back end and each wrapper passes.
//!
//! A case is one property. It runs on a disk, in a bucket of each S3 server that the tests use, and through the stores that record calls
//! and inject failures. That the cases can fail is a test too: stores that break one property each are caught.
//!
//! A store of your own is tested by a `Place` that opens it. The tests in `in_seaweedfs` need the server that `dev/up` starts.

mod cases;
mod flawed;
mod order;
mod place;
mod recorder;
mod support;
mod work;

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::{
    cases::{Failure, Outcome},
    flawed::{Flaw, Flawed},
    place::Place,
    recorder::Recorder,
    support::faulty_store::FaultyStore,
};

/// A case by its name.
type Case = (&'static str, fn(&Place) -> BoxFuture<'_, Outcome>);

/// Makes a test of each case on each store, and the list of all.
macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        const CASES: &[Case] =
            &[$((stringify!($case), boxed::$case)),*];

        /// The cases as functions of one type.
        mod boxed {
            use super::*;

            $(
                pub fn $case(place: &Place) -> BoxFuture<'_, Outcome> {
                    Box::pin(cases::$case(place))
                }
            )*
        }

        suite!(@on on_disk, Place::on_disk(); $($case),*);
        suite!(@on in_s3s_fs, Place::in_s3s_fs(); $($case),*);
        suite!(@on in_seaweedfs, Place::in_seaweedfs(); $($case),*);
        suite!(@on through_the_recorder, Place::on_disk().wrapped(Recorder::new); $($case),*);
        suite!(@on through_the_faulty_store, Place::on_disk().wrapped(|inner| FaultyStore::new(inner, 0)); $($case),*);
    };
    (@on $name:ident, $place:expr; $($case:ident),*) => {
        mod $name {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let place = $place;
                    if let Err(failure) = cases::$case(&place).await {
                        panic!("{place:?}: {failure}");
                    }
                }
            )*
        }
    };
}

suite!(
    an_object_is_read_as_it_was_written,
    an_empty_object_is_an_object,
    an_overwritten_object_has_the_new_content,
    a_streamed_object_is_visible_once_it_is_finished,
    a_writer_that_is_dropped_or_aborted_leaves_what_was_there,
    a_reader_sees_the_old_or_the_new_object_while_it_is_overwritten,
    a_range_is_read_from_the_start_the_middle_and_the_end,
    a_range_beyond_the_end_is_an_error_and_not_an_absence,
    an_absent_object_is_not_found_and_its_deletion_is_no_error,
    a_deleted_object_is_gone,
    an_absent_or_emptied_directory_lists_nothing,
    a_listing_of_many_pages_is_complete_and_of_its_directory_alone,
    the_names_of_a_restic_repository_are_kept,
    many_objects_are_read_in_the_order_of_their_keys,
    many_objects_are_deleted_and_absent_ones_are_no_error,
    a_deferred_write_is_visible_and_stays_after_the_next_write,
    the_location_and_errors_name_no_secret,
);

/// A store with a flaw fails exactly the cases that are about it.
async fn is_caught(flaw: Flaw, by: &[&str]) {
    let mut caught = Vec::new();
    for (name, case) in CASES {
        let place = Place::on_disk().wrapped(|inner| Flawed::new(inner, flaw));
        if case(&place).await.is_err() {
            caught.push(*name);
        }
    }
    assert_eq!(caught, by, "{flaw:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_shows_half_an_object_is_caught() {
    is_caught(
        Flaw::TornWrites,
        &["a_reader_sees_the_old_or_the_new_object_while_it_is_overwritten"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_writers_leave_what_they_wrote_is_caught() {
    is_caught(
        Flaw::WritersThatLeave,
        &[
            "a_streamed_object_is_visible_once_it_is_finished",
            "a_writer_that_is_dropped_or_aborted_leaves_what_was_there",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lists_one_page_is_caught() {
    is_caught(
        Flaw::FirstPageOnly,
        &["a_listing_of_many_pages_is_complete_and_of_its_directory_alone"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lists_by_prefix_is_caught() {
    is_caught(
        Flaw::ListsByPrefix,
        &["a_listing_of_many_pages_is_complete_and_of_its_directory_alone"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_reads_short_is_caught() {
    is_caught(Flaw::ShortRanges, &["a_range_beyond_the_end_is_an_error_and_not_an_absence"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_say_that_an_object_is_absent_is_caught() {
    is_caught(
        Flaw::AbsenceIsAnError,
        &[
            "a_streamed_object_is_visible_once_it_is_finished",
            "a_writer_that_is_dropped_or_aborted_leaves_what_was_there",
            "an_absent_object_is_not_found_and_its_deletion_is_no_error",
            "a_deleted_object_is_gone",
            "many_objects_are_deleted_and_absent_ones_are_no_error",
            "a_deferred_write_is_visible_and_stays_after_the_next_write",
            "the_location_and_errors_name_no_secret",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_deletes_only_what_exists_is_caught() {
    is_caught(
        Flaw::DeletesOnlyWhatExists,
        &[
            "an_absent_object_is_not_found_and_its_deletion_is_no_error",
            "many_objects_are_deleted_and_absent_ones_are_no_error",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_what_is_deleted_is_caught() {
    is_caught(
        Flaw::KeepsWhatIsDeleted,
        &[
            "a_deleted_object_is_gone",
            "an_absent_or_emptied_directory_lists_nothing",
            "many_objects_are_deleted_and_absent_ones_are_no_error",
            "a_deferred_write_is_visible_and_stays_after_the_next_write",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_sorts_what_it_reads_is_caught() {
    is_caught(Flaw::SortsWhatItReads, &["many_objects_are_read_in_the_order_of_their_keys"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_deletes_one_batch_is_caught() {
    is_caught(Flaw::FirstBatchOnly, &["many_objects_are_deleted_and_absent_ones_are_no_error"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_drops_deferred_writes_is_caught() {
    is_caught(
        Flaw::DropsDeferredWrites,
        &[
            "a_listing_of_many_pages_is_complete_and_of_its_directory_alone",
            "many_objects_are_read_in_the_order_of_their_keys",
            "a_deferred_write_is_visible_and_stays_after_the_next_write",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_overwrites_is_caught() {
    is_caught(Flaw::NeverOverwrites, &["an_overwritten_object_has_the_new_content"]).await;
}

/// With one failed call, a case ends with that failure or passes: no property breaks.
#[tokio::test(flavor = "multi_thread")]
async fn one_failed_call_is_reported_and_breaks_no_property() {
    const FIRST: u64 = 12;
    for (name, case) in CASES {
        for fails_at in 1..=FIRST {
            let mut place = Place::on_disk();
            let faulty = Arc::new(FaultyStore::new(place.store.clone(), fails_at));
            place.store = faulty.clone();
            let ended = case(&place).await;
            if let Err(Failure::Property(words)) = &ended {
                panic!("{name}, call {fails_at} failed: {words}");
            }
            let is_reached = faulty.calls() >= fails_at;
            assert_eq!(ended.is_err(), is_reached, "{name}, call {fails_at}: {ended:?}");
            if !is_reached {
                break;
            }
        }
    }
}
