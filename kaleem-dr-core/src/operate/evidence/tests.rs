use std::path::Path;

use jiff::SignedDuration;

use super::*;
use crate::{
    engine::repository::{Access, Location},
    ground::{ProofLevel, progress::Silent},
};

async fn repository(directory: &Path) -> Repository {
    let access = Access::new(Location::Directory(directory.to_path_buf()), "password".into());
    Repository::init(&access, 2).await.unwrap()
}

fn proof(host: &str, source: &str, days_ago: i64, proven: Option<ProofLevel>) -> Proof {
    let at = Timestamp::now() - SignedDuration::from_hours(24 * days_ago);
    let of = (SnapshotId::of_test(&days_ago.unsigned_abs().to_string()), at);
    let source = source.parse().unwrap();
    let mut proof = Proof::new(RunId::new(), source, "/r", of, ProofLevel::Parsed);
    (proof.host, proof.at, proof.proven) = (host.to_owned(), at, proven);
    proof
}

/// Writes each of these proofs as a record of its own.
async fn write_all(repository: &Repository, writer: &str, proofs: &[Proof]) {
    let host: HostName = writer.parse().unwrap();
    let lock = repository.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    for proof in proofs {
        let proofs = std::slice::from_ref(proof);
        let shown = Shown { host: &host, run: proof.run, proofs, report: None };
        write(repository, shown, &lock).await.unwrap();
    }
    lock.release().await.unwrap();
}

async fn left(repository: &Repository) -> Vec<(String, i64)> {
    let lock = repository.lock(LockKind::Exclusive, Duration::ZERO).await.unwrap();
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let snapshots = repository.snapshots().await.unwrap();
    trim(repository, &snapshots, &lock, &progress, &CancellationToken::new()).await;
    lock.release().await.unwrap();
    let evidence = Evidence::among(&repository.snapshots().await.unwrap());
    let now = Timestamp::now();
    let mut left: Vec<(String, i64)> = evidence
        .proofs
        .iter()
        .flat_map(|kept| &kept.proofs)
        .map(|proof| (proof.host.clone(), now.duration_since(proof.at).as_hours() / 24))
        .collect();
    left.sort();
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_proof_of_each_host_source_and_level_stays() {
    let home = tempfile::tempdir().unwrap();
    let repository = repository(home.path()).await;
    let (parsed, restored) = (Some(ProofLevel::Parsed), Some(ProofLevel::Restored));
    let of_a = [
        proof("a", "mongo", 30, restored),
        proof("a", "mongo", 20, restored),
        proof("a", "mongo", 9, parsed),
        proof("a", "mongo", 2, parsed),
        proof("a", "mongo", 1, None),
        proof("a", "files", 8, parsed),
    ];
    write_all(&repository, "a", &of_a).await;
    write_all(&repository, "b", &[proof("b", "mongo", 7, parsed), proof("b", "mongo", 6, parsed)])
        .await;
    let row = |host: &str, days| (host.to_owned(), days);
    assert_eq!(
        left(&repository).await,
        [row("a", 1), row("a", 2), row("a", 8), row("a", 20), row("b", 6)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_in_the_future_displaces_nothing_and_old_evidence_goes_unless_it_is_the_newest() {
    let home = tempfile::tempdir().unwrap();
    let repository = repository(home.path()).await;
    let parsed = Some(ProofLevel::Parsed);
    let of_a = [
        proof("a", "mongo", -400, parsed),
        proof("a", "mongo", 3, parsed),
        proof("a", "mongo", 2000, Some(ProofLevel::Restored)),
        proof("a", "files", 1900, parsed),
    ];
    write_all(&repository, "a", &of_a).await;
    let row = |days| ("a".to_owned(), days);
    assert_eq!(left(&repository).await, [row(3), row(1900)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_never_forgets_keeps_a_bounded_number_of_records() {
    let home = tempfile::tempdir().unwrap();
    let repository = repository(home.path()).await;
    let parsed = Some(ProofLevel::Parsed);
    write_all(&repository, "b", &[proof("b", "mongo", 9, parsed), proof("b", "mongo", 8, parsed)])
        .await;
    let host: HostName = "a".parse().unwrap();
    let progress: Arc<dyn ProgressSink> = Arc::new(Silent);
    let superseded: Vec<Proof> = (10..9 + i64::try_from(SPARE).unwrap())
        .rev()
        .map(|day| proof("a", "mongo", day, parsed))
        .collect();
    write_all(&repository, "a", &superseded).await;
    let mut counts = Vec::new();
    for day in (0..4).rev() {
        let proof = proof("a", "mongo", day, parsed);
        let run = proof.run;
        let shown = Shown { host: &host, run, proofs: &[proof], report: None };
        let never = CancellationToken::new();
        keep(&repository, shown, Duration::ZERO, &progress, &never).await.unwrap();
        let kept = Evidence::among(&repository.snapshots().await.unwrap()).proofs;
        let own = kept.iter().filter(|kept| kept.host == "a").count();
        counts.push(own);
        assert_eq!(kept.len() - own, 2, "another host's evidence is not its own");
    }
    assert_eq!(
        counts,
        [SPARE, SPARE + 1, 1, 2],
        "the surplus goes at once, as soon as it is too large"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_kept_byte_for_byte_and_its_chain_begins_after_a_gap() {
    let home = tempfile::tempdir().unwrap();
    let repository = repository(home.path()).await;
    let host: HostName = "a".parse().unwrap();
    let lock = repository.lock(LockKind::Shared, Duration::ZERO).await.unwrap();
    let mut hashes: Vec<String> = Vec::new();
    for number in 0..4 {
        let run = RunId::new();
        let previous = hashes.last().map_or("null".to_owned(), |hash| format!("{hash:?}"));
        // The order of the keys and the blanks are not those of our writer.
        let body = format!(
            "{{ \"run\": \"{run}\",  \"previous\": {previous}, \"finished\": \"2026-11-0{}T00:00:00Z\" }}",
            number + 1
        );
        let hash = ByteDigest::of(body.as_bytes());
        let report = ChainedReport { run, previous: None, hash: hash.clone(), body };
        if number != 1 {
            let shown = Shown { host: &host, run, proofs: &[], report: Some(&report) };
            write(&repository, shown, &lock).await.unwrap();
        }
        hashes.push(hash);
    }
    lock.release().await.unwrap();
    let reports = Evidence::among(&repository.snapshots().await.unwrap()).reports;
    assert_eq!(reports.len(), 3);
    let chain = Evidence::chain(&reports, "a");
    let found: Vec<&String> = chain.iter().map(|report| &report.hash).collect();
    assert_eq!(found, [&hashes[2], &hashes[3]], "the first one is before the gap");
    assert_eq!(chain[0].previous.as_ref(), Some(&hashes[1]));
    assert!(Evidence::chain(&reports, "b").is_empty());
}
