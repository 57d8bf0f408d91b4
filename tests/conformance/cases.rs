//! The cases: one property of a store each. A case gets a place of its own, which is empty.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use kaleem_dr_core::{
    engine::repository::store::{Object, ObjectStore, StoreError},
    ground::error_chain,
};

use crate::place::Place;

/// The result of a case.
pub type Outcome = Result<(), Failure>;

/// Why a case did not pass.
#[derive(Debug)]
pub enum Failure {
    /// A call failed that should have succeeded, or failed otherwise than it should.
    Store(StoreError),
    /// A call gave a wrong result.
    Property(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => f.write_str(&error_chain(error)),
            Self::Property(words) => f.write_str(words),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Fails with a sentence unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(Failure::Property(format!($($words)+)));
        }
    };
}

/// Above this length, a bucket's store writes an object in parts.
const IN_PARTS: usize = 49 << 20;
/// Above this length, a bucket's writer sends more than one part.
const STREAMED_IN_PARTS: usize = 17 << 20;
/// More objects than an S3 service lists in a page.
const MORE_THAN_A_PAGE: usize = 1_050;
/// Keys of one deletion: more than a service takes in a batch.
const MORE_THAN_A_BATCH: usize = 1_500;
/// Writes under way at once.
const AT_ONCE: usize = 16;
const MIB: usize = 1 << 20;

/// Bytes that do not repeat within an object, and differ between seeds (splitmix64).
fn content(length: usize, seed: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = seed;
    while bytes.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// A name of 64 hex digits, as restic's objects have.
fn name(seed: u64) -> String {
    content(32, seed ^ 0xABCD)
        .iter()
        .fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
}

async fn put(place: &Place, key: &str, content: &Bytes) -> Outcome {
    Ok(place.store.write(key, vec![content.clone()]).await?)
}

/// What a handle reads of an object is exactly this, by every call that says something of it.
async fn expect_object(store: &dyn ObjectStore, key: &str, expected: &Bytes) -> Outcome {
    let read = store.read(key, None).await?;
    ensure!(
        read == *expected,
        "{key}: {} bytes were read, not the {} that were written",
        read.len(),
        expected.len()
    );
    let size = store.size(key).await?;
    ensure!(size == Some(expected.len() as u64), "{key}: size is {size:?}, not {}", expected.len());
    let directory = key.rsplit_once('/').map_or("", |(directory, _)| directory);
    if directory.is_empty() {
        return Ok(());
    }
    let listed = store.list(directory).await?;
    let found: Vec<_> = listed.iter().filter(|object| object.key == key).collect();
    ensure!(found.len() == 1, "{key} is in the listing {} times", found.len());
    ensure!(
        found[0].size_bytes == expected.len() as u64,
        "{key} is listed with {} bytes",
        found[0].size_bytes
    );
    Ok(())
}

/// An object does not exist, by every call that says something of it.
async fn expect_absent(store: &dyn ObjectStore, key: &str) -> Outcome {
    for range in [None, Some(0..1)] {
        match store.read(key, range.clone()).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            Ok(bytes) => {
                ensure!(
                    false,
                    "{key} does not exist, and read {range:?} gave {} bytes",
                    bytes.len()
                );
            }
        }
    }
    let size = store.size(key).await?;
    ensure!(size.is_none(), "{key} does not exist, and its size is {size:?}");
    let directory = key.rsplit_once('/').map_or(".", |(directory, _)| directory);
    let listed = listed(store, directory).await?;
    ensure!(listed.iter().all(|object| object.key != key), "{key} does not exist and is listed");
    Ok(())
}

/// A listing, empty where the store says that there is no such directory.
async fn listed(store: &dyn ObjectStore, directory: &str) -> Result<Vec<Object>, StoreError> {
    match store.list(directory).await {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        listed => listed,
    }
}

pub async fn an_object_is_read_as_it_was_written(place: &Place) -> Outcome {
    for (number, length) in [1, 155, 4096, MIB + 1, IN_PARTS].into_iter().enumerate() {
        let (key, content) = (format!("data/0{number}/object"), content(length, number as u64));
        // In pieces of unequal length.
        let pieces = vec![content.slice(..length / 3), content.slice(length / 3..)];
        place.store.write(&key, pieces).await?;
        for store in [&place.store, &place.other] {
            expect_object(&**store, &key, &content).await?;
        }
    }
    Ok(())
}

pub async fn an_empty_object_is_an_object(place: &Place) -> Outcome {
    place.store.write("index/empty", Vec::new()).await?;
    expect_object(&*place.other, "index/empty", &Bytes::new()).await
}

pub async fn an_overwritten_object_has_the_new_content(place: &Place) -> Outcome {
    for (seed, length) in [(1, 5000), (2, 700), (3, 9000)] {
        let content = content(length, seed);
        put(place, "index/object", &content).await?;
        expect_object(&*place.other, "index/object", &content).await?;
    }
    Ok(())
}

pub async fn a_streamed_object_is_visible_once_it_is_finished(place: &Place) -> Outcome {
    for (number, length) in [3, MIB + 7, STREAMED_IN_PARTS].into_iter().enumerate() {
        let (key, content) = (format!("data/1{number}/object"), content(length, number as u64));
        let mut writer = place.store.writer(&key).await?;
        for piece in content.chunks(MIB) {
            writer.write(content.slice_ref(piece)).await?;
        }
        expect_absent(&*place.other, &key).await?;
        writer.finish().await?;
        expect_object(&*place.other, &key, &content).await?;
    }
    Ok(())
}

pub async fn a_writer_that_is_dropped_or_aborted_leaves_what_was_there(place: &Place) -> Outcome {
    let old = content(300, 1);
    put(place, "data/22/old", &old).await?;
    for (is_aborted, length) in [(true, 20), (false, 20), (true, STREAMED_IN_PARTS)] {
        for key in ["data/22/new", "data/22/old"] {
            let mut writer = place.store.writer(key).await?;
            writer.write(content(length, 2)).await?;
            if is_aborted {
                writer.abort().await;
            }
            drop(writer);
            expect_absent(&*place.other, "data/22/new").await?;
            expect_object(&*place.other, "data/22/old", &old).await?;
        }
    }
    let all = listed(&*place.other, "data").await?;
    ensure!(all.len() == 1, "a writer that was given up left something: {all:?}");
    Ok(())
}

pub async fn a_reader_sees_the_old_or_the_new_object_while_it_is_overwritten(
    place: &Place,
) -> Outcome {
    const VERSIONS: u8 = 12;
    // Each version has one byte throughout, and a length that no other has.
    let version = |number: u8| Bytes::from(vec![number; MIB + 4096 * usize::from(number)]);
    put(place, "index/object", &version(0)).await?;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, done) = (place.other.clone(), done.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let read = store.read("index/object", None).await?;
                    let number = read.first().copied().unwrap_or(u8::MAX);
                    ensure!(
                        number < VERSIONS && read == version(number),
                        "a reader got {} bytes that are no version of the object",
                        read.len()
                    );
                }
                Ok(())
            })
        })
        .collect();
    let mut written = Ok(());
    for number in 1..VERSIONS {
        written = put(place, "index/object", &version(number)).await;
        if written.is_err() {
            break;
        }
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.expect("a reader does not panic")?;
    }
    written
}

pub async fn a_range_is_read_from_the_start_the_middle_and_the_end(place: &Place) -> Outcome {
    let whole = content(100_000, 5);
    put(place, "data/33/pack", &whole).await?;
    for range in [0..1, 0..100_000, 1..2, 40_000..50_001, 99_999..100_000] {
        let read = place.other.read("data/33/pack", Some(range.clone())).await?;
        let (start, end) = (usize_of(range.start), usize_of(range.end));
        ensure!(read == whole.slice(start..end), "{range:?} gave {} other bytes", read.len());
    }
    Ok(())
}

pub async fn a_range_beyond_the_end_is_an_error_and_not_an_absence(place: &Place) -> Outcome {
    put(place, "data/44/pack", &content(1000, 6)).await?;
    for range in [999..1001, 0..5000, 1000..1001, 2000..3000] {
        let range: Range<u64> = range;
        match place.other.read("data/44/pack", Some(range.clone())).await {
            Ok(bytes) => ensure!(false, "{range:?} of 1000 bytes gave {} bytes", bytes.len()),
            Err(error) => {
                ensure!(!error.is_not_found(), "{range:?} of an object that exists: not found");
            }
        }
    }
    Ok(())
}

pub async fn an_absent_object_is_not_found_and_its_deletion_is_no_error(place: &Place) -> Outcome {
    put(place, "keys/there", &content(10, 7)).await?;
    for key in ["keys/absent", "locks/absent", "data/55/absent", "config"] {
        expect_absent(&*place.store, key).await?;
        place.store.delete(key).await?;
    }
    let keys = ["keys/there", "keys/absent"].map(str::to_owned).to_vec();
    match place.store.read_many(keys).await {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => ensure!(false, "one of two objects is absent, and both were read"),
    }
    expect_object(&*place.store, "keys/there", &content(10, 7)).await
}

pub async fn a_deleted_object_is_gone(place: &Place) -> Outcome {
    let kept = content(10, 8);
    for key in ["snapshots/kept", "snapshots/gone", "config"] {
        put(place, key, &kept).await?;
    }
    for key in ["snapshots/gone", "config"] {
        place.store.delete(key).await?;
        expect_absent(&*place.other, key).await?;
    }
    expect_object(&*place.other, "snapshots/kept", &kept).await
}

pub async fn an_absent_or_emptied_directory_lists_nothing(place: &Place) -> Outcome {
    for directory in ["locks", "data/66"] {
        ensure!(
            listed(&*place.store, directory).await?.is_empty(),
            "{directory} was never written"
        );
        let key = format!("{directory}/object");
        put(place, &key, &content(10, 9)).await?;
        place.store.delete(&key).await?;
        let left = listed(&*place.store, directory).await?;
        ensure!(left.is_empty(), "{directory} was emptied and lists {left:?}");
    }
    Ok(())
}

pub async fn a_listing_of_many_pages_is_complete_and_of_its_directory_alone(
    place: &Place,
) -> Outcome {
    let keys: BTreeSet<String> = (0..MORE_THAN_A_PAGE as u64)
        .map(|number| {
            let name = name(number);
            format!("data/{}/{name}", &name[..2])
        })
        .collect();
    let others = ["data-of-another/object", "dat", "index/object", "database"];
    let all: Vec<String> = keys.iter().cloned().chain(others.map(str::to_owned)).collect();
    futures::stream::iter(all)
        .map(|key| async move {
            place.store.write_deferred(&key, vec![Bytes::from(key.clone())]).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let found = place.other.list("data").await?;
    ensure!(found.len() == keys.len(), "{} objects are listed of {}", found.len(), keys.len());
    for object in &found {
        ensure!(keys.contains(&object.key), "{} is listed and is not in data", object.key);
        ensure!(object.size_bytes == object.key.len() as u64, "{object:?} has another size");
    }
    let distinct: BTreeSet<_> = found.iter().map(|object| &object.key).collect();
    ensure!(distinct.len() == keys.len(), "an object is listed twice");
    Ok(())
}

pub async fn the_names_of_a_restic_repository_are_kept(place: &Place) -> Outcome {
    let key = |directory: &str| format!("{directory}/{}", name(directory.len() as u64));
    let pack = name(77);
    let keys = [
        "config".to_owned(),
        key("keys"),
        key("index"),
        key("locks"),
        key("snapshots"),
        format!("data/{}/{pack}", &pack[..2]),
    ];
    for key in &keys {
        put(place, key, &Bytes::from(key.clone())).await?;
    }
    for key in &keys {
        expect_object(&*place.other, key, &Bytes::from(key.clone())).await?;
    }
    for directory in ["keys", "index", "locks", "snapshots", "data"] {
        let found = place.other.list(directory).await?;
        ensure!(found.len() == 1, "{directory} has one object and lists {found:?}");
        ensure!(keys.contains(&found[0].key), "{} was not written", found[0].key);
    }
    Ok(())
}

pub async fn many_objects_are_read_in_the_order_of_their_keys(place: &Place) -> Outcome {
    let object =
        |number: usize| (format!("index/{number}"), content(1 + number * 37, number as u64));
    for number in 0..40 {
        let (key, content) = object(number);
        place.store.write_deferred(&key, vec![content]).await?;
    }
    // Not sorted, and one key twice.
    let order: Vec<usize> = (0..40).map(|number| (number * 17 + 5) % 40).chain([5]).collect();
    let read =
        place.other.read_many(order.iter().map(|number| object(*number).0).collect()).await?;
    ensure!(read.len() == order.len(), "{} objects came for {} keys", read.len(), order.len());
    for (number, bytes) in order.into_iter().zip(read) {
        ensure!(bytes == object(number).1, "index/{number} is not in its place");
    }
    ensure!(place.other.read_many(Vec::new()).await?.is_empty(), "no keys, and objects came");
    Ok(())
}

pub async fn many_objects_are_deleted_and_absent_ones_are_no_error(place: &Place) -> Outcome {
    let kept = content(20, 10);
    for key in ["data/77/first", "data/77/last", "data/77/kept"] {
        put(place, key, &kept).await?;
    }
    let absent = (0..MORE_THAN_A_BATCH).map(|number| format!("data/77/absent-{number}"));
    let keys = ["data/77/first".to_owned()]
        .into_iter()
        .chain(absent)
        .chain(["data/77/last".to_owned()])
        .collect();
    place.store.delete_many(keys).await?;
    for key in ["data/77/first", "data/77/last"] {
        expect_absent(&*place.other, key).await?;
    }
    place.store.delete_many(Vec::new()).await?;
    expect_object(&*place.other, "data/77/kept", &kept).await
}

pub async fn a_deferred_write_is_visible_and_stays_after_the_next_write(place: &Place) -> Outcome {
    let packs: Vec<_> =
        (0..5).map(|seed| (format!("data/88/{seed}"), content(MIB, seed))).collect();
    for (key, content) in &packs {
        place.store.write_deferred(key, vec![content.clone()]).await?;
        expect_object(&*place.other, key, content).await?;
    }
    put(place, "index/of-the-packs", &content(100, 11)).await?;
    for (key, content) in &packs {
        expect_object(&*place.other, key, content).await?;
    }
    // Deferred writes replace objects, and deletions remove them, as plain ones.
    let (key, _) = &packs[0];
    place.store.write_deferred(key, vec![content(7, 12)]).await?;
    place.store.delete(&packs[1].0).await?;
    put(place, "index/of-the-packs", &content(100, 13)).await?;
    expect_object(&*place.other, key, &content(7, 12)).await?;
    expect_absent(&*place.other, &packs[1].0).await
}

pub async fn the_location_and_errors_name_no_secret(place: &Place) -> Outcome {
    let location = place.store.location();
    ensure!(!location.is_empty(), "the store has no location");
    let mut said = vec![location, format!("{:?}", place.store)];
    match place.store.read("keys/absent", None).await {
        Ok(_) => ensure!(false, "keys/absent does not exist and was read"),
        Err(error) if !error.is_not_found() => return Err(error.into()),
        Err(error) => said.push(format!("{error}: {error:?}")),
    }
    for secret in &place.secrets {
        ensure!(said.iter().all(|text| !text.contains(secret)), "a secret is in {said:?}");
    }
    Ok(())
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("a test's numbers are small")
}
