//! The list of metrics: name, help, labels, and how each is computed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Metric, Sample, inputs::MetricInputs};
use crate::{
    engine::ledger::{EventKind, PastEvent, PastPart, Proof},
    ground::ProofLevel,
    recovery::objectives::{ProofsOf, Sample as Timed, forecast_seconds, snapshots_proven},
};

/// Labels of metrics about jobs. `source` is empty for a job as a whole.
const OF_JOB: &[&str] = &["kind", "source", "repository"];
const OF_SOURCE: &[&str] = &["source", "repository"];

/// Every metric, in the order in which it is printed.
pub static METRICS: [Metric; 21] = [
    Metric {
        name: "kaleem_dr_build_info",
        help: "Always 1; the label has the version.",
        labels: &["version"],
        read: |_| vec![sample(&[env!("CARGO_PKG_VERSION")], 1.0)],
    },
    Metric {
        name: "kaleem_dr_metrics_written_timestamp_seconds",
        help: "Time at which these metrics were written.",
        labels: &[],
        read: |inputs| vec![sample(&[], unix(inputs.now))],
    },
    Metric {
        name: "kaleem_dr_last_run_status",
        help: "Exit status of the newest run: 0 done, 3 done in part, anything else failed. If source is empty, of the whole job.",
        labels: OF_JOB,
        read: |inputs| {
            of_jobs(
                &inputs.events,
                &inputs.parts,
                |event| f64::from(event.exit),
                |past| f64::from(past.part.exit),
            )
        },
    },
    Metric {
        name: "kaleem_dr_last_run_timestamp_seconds",
        help: "End of the newest run, successful or not.",
        labels: OF_JOB,
        read: |inputs| of_jobs(&inputs.events, &inputs.parts, ended, part_ended),
    },
    Metric {
        name: "kaleem_dr_last_success_timestamp_seconds",
        help: "End of the newest run with exit status 0.",
        labels: OF_JOB,
        read: |inputs| of_jobs(&inputs.good_events, &inputs.good_parts, ended, part_ended),
    },
    Metric {
        name: "kaleem_dr_late_after_seconds",
        help: "Age from which the newest success of a kind of job is late: the longest interval of its schedule, and some slack. The repository is that of drills.",
        labels: &["kind", "repository"],
        read: |inputs| {
            let ages = inputs.late_after.iter();
            ages.map(|((kind, repository), age)| sample(&[kind, repository], age.as_secs_f64()))
                .collect()
        },
    },
    Metric {
        name: "kaleem_dr_run_duration_seconds",
        help: "Duration of the newest run.",
        labels: OF_JOB,
        read: |inputs| {
            let lasted =
                |event: &PastEvent| event.finished.duration_since(event.started).as_secs_f64();
            of_jobs(&inputs.events, &inputs.parts, lasted, |past| past.part.seconds)
        },
    },
    Metric {
        name: "kaleem_dr_source_bytes",
        help: "Size of the source in its newest whole backup.",
        labels: OF_SOURCE,
        read: |inputs| of_backups(inputs, |past| Some(bytes(past.part.size_bytes))),
    },
    Metric {
        name: "kaleem_dr_added_bytes",
        help: "Bytes that the newest whole backup of the source added to the repository.",
        labels: OF_SOURCE,
        read: |inputs| of_backups(inputs, |past| Some(bytes(past.part.added_bytes))),
    },
    Metric {
        name: "kaleem_dr_newest_point_timestamp_seconds",
        help: "Moment of the data in the newest whole backup of the source, proven or not.",
        labels: OF_SOURCE,
        read: |inputs| of_backups(inputs, |past| past.part.consistent_at.map(unix)),
    },
    Metric {
        name: "kaleem_dr_rpo_point_timestamp_seconds",
        help: "Moment of the data in the newest point proven at objectives.proof: its age is the RPO, the data that would be lost now.",
        labels: OF_SOURCE,
        read: |inputs| {
            let proven = inputs.proven_at.iter();
            proven
                .map(|(source, repository, at)| sample(&[source, repository], unix(*at)))
                .collect()
        },
    },
    Metric {
        name: "kaleem_dr_newest_proven_timestamp_seconds",
        help: "Moment of the data in the newest point proven at this level or a higher one.",
        labels: &["source", "repository", "level"],
        read: proven,
    },
    Metric {
        name: "kaleem_dr_rpo_target_seconds",
        help: "Maximum age of a source's newest proven data: objectives.rpo_hours of the config, or status.max_age_hours.",
        labels: &[],
        read: |inputs| vec![sample(&[], inputs.rpo_seconds)],
    },
    Metric {
        name: "kaleem_dr_rto_measured_seconds",
        help: "Duration of the newest restore into a scratch target, including its comparison.",
        labels: OF_SOURCE,
        read: |inputs| {
            let measured = inputs.newest_proofs(|proof| proof.restore_seconds.is_some());
            measured
                .iter()
                .filter_map(|proof| {
                    Some(sample(
                        &[proof.source.as_str(), &proof.repository],
                        proof.restore_seconds?,
                    ))
                })
                .collect()
        },
    },
    Metric {
        name: "kaleem_dr_rto_forecast_seconds",
        help: "Expected duration of a restore now: the measured one, scaled to the current size of the source.",
        labels: OF_SOURCE,
        read: forecast,
    },
    Metric {
        name: "kaleem_dr_drill_last_success_timestamp_seconds",
        help: "End of the newest drill with exit status 0.",
        labels: &["repository"],
        read: |inputs| {
            let drills =
                inputs.good_events.iter().filter(|event| event.kind == EventKind::Drill.word());
            drills.map(|event| sample(&[&event.repository], unix(event.finished))).collect()
        },
    },
    Metric {
        name: "kaleem_dr_drill_mismatches",
        help: "1 if the newest restore of the source into a scratch target differed from what was captured, else 0.",
        labels: OF_SOURCE,
        read: |inputs| {
            let restored = inputs.newest_proofs(|proof| proof.wanted == ProofLevel::Restored);
            let value = |good| if good { 0.0 } else { 1.0 };
            restored
                .iter()
                .map(|proof| {
                    sample(&[proof.source.as_str(), &proof.repository], value(proof.is_good()))
                })
                .collect()
        },
    },
    Metric {
        name: "kaleem_dr_alarms",
        help: "Active alarms: data that look lost or encrypted, until the operator acknowledges them.",
        labels: &["source"],
        read: alarms,
    },
    Metric {
        name: "kaleem_dr_mirror_info",
        help: "Always 1; the label has the repository that is mirrored.",
        labels: &["repository", "mirror_of"],
        read: |inputs| {
            inputs.mirrors.iter().map(|(mirror, of)| sample(&[mirror, of], 1.0)).collect()
        },
    },
    Metric {
        name: "kaleem_dr_mirror_synced_timestamp_seconds",
        help: "Start of the newest successful pass of the mirror, which contains everything that was saved before.",
        labels: &["repository"],
        read: |inputs| {
            let passes =
                inputs.good_events.iter().filter(|event| event.kind == EventKind::Replicate.word());
            let passes = passes.filter(|event| {
                inputs.mirrors.iter().any(|(mirror, _)| *mirror == event.repository)
            });
            passes.map(|event| sample(&[&event.repository], unix(event.started))).collect()
        },
    },
    Metric {
        name: "kaleem_dr_mirror_lag_seconds",
        help: "Time from the mirror's newest successful pass to the repository's newest backup; 0 if the mirror contains the backup.",
        labels: &["repository"],
        read: lag,
    },
];

fn sample(labels: &[&str], value: f64) -> Sample {
    Sample { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
}

fn unix(time: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    let milliseconds = time.as_millisecond() as f64;
    milliseconds / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a size in a graph")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

fn ended(event: &PastEvent) -> f64 {
    unix(event.finished)
}

fn part_ended(past: &PastPart) -> f64 {
    unix(past.part.finished)
}

fn of_jobs(
    events: &[PastEvent],
    parts: &[PastPart],
    of_event: impl Fn(&PastEvent) -> f64,
    of_part: impl Fn(&PastPart) -> f64,
) -> Vec<Sample> {
    let whole =
        events.iter().map(|event| sample(&[&event.kind, "", &event.repository], of_event(event)));
    let each = parts.iter().map(|past| {
        sample(&[&past.kind, past.part.source.as_str(), &past.part.repository], of_part(past))
    });
    whole.chain(each).collect()
}

fn of_backups(inputs: &MetricInputs, value: impl Fn(&PastPart) -> Option<f64>) -> Vec<Sample> {
    let backups = inputs.backups();
    backups
        .filter_map(|past| {
            Some(sample(&[past.part.source.as_str(), &past.part.repository], value(past)?))
        })
        .collect()
}

fn proven(inputs: &MetricInputs) -> Vec<Sample> {
    let mut of: BTreeMap<(&str, &str), Vec<&Proof>> = BTreeMap::new();
    for proof in &inputs.proofs {
        of.entry((proof.source.as_str(), &proof.repository)).or_default().push(proof);
    }
    let mut samples = Vec::new();
    for ((source, repository), proofs) in of {
        let of = ProofsOf { repository, mirror: None, host: "", restorable: None, reach: None };
        let snapshots = snapshots_proven(&proofs, &of, &BTreeSet::new());
        for level in ProofLevel::ALL {
            let holds = snapshots.iter().filter(|proven| proven.level >= Some(level));
            let newest = holds.map(|proven| proven.consistent_at).max();
            samples
                .extend(newest.map(|at| sample(&[source, repository, level.as_str()], unix(at))));
        }
    }
    samples
}

fn forecast(inputs: &MetricInputs) -> Vec<Sample> {
    let measured =
        inputs.newest_proofs(|proof| proof.restore_seconds.is_some() && proof.size_bytes > 0);
    let of = |proof: &&Proof| {
        let now = inputs.backups().find(|past| {
            past.part.source == proof.source && past.part.repository == proof.repository
        });
        let today = now.map_or(proof.size_bytes, |now| now.part.size_bytes);
        let timed = Timed::of_source(&inputs.proofs, &proof.source, &proof.repository);
        Some(sample(&[proof.source.as_str(), &proof.repository], forecast_seconds(&timed, today)?))
    };
    measured.iter().filter_map(of).collect()
}

fn alarms(inputs: &MetricInputs) -> Vec<Sample> {
    let mut standing: BTreeMap<&str, f64> =
        inputs.sources.iter().map(|source| (source.as_str(), 0.0)).collect();
    for alarm in &inputs.alarms {
        *standing.entry(alarm.source.as_str()).or_default() += 1.0;
    }
    standing.into_iter().map(|(source, count)| sample(&[source], count)).collect()
}

fn lag(inputs: &MetricInputs) -> Vec<Sample> {
    let of = |(mirror, of): &(String, String)| {
        let pass = |event: &&PastEvent| {
            event.kind == EventKind::Replicate.word() && event.repository == *mirror
        };
        let synced = inputs.good_events.iter().find(pass)?.started;
        let newest = inputs
            .backups()
            .filter(|past| past.part.repository == *of)
            .map(|past| past.part.finished)
            .max()?;
        Some(sample(&[mirror], newest.duration_since(synced).as_secs_f64().max(0.0)))
    };
    inputs.mirrors.iter().filter_map(of).collect()
}
