//! Daily: the backup ran, there is free space, the snapshots exist.

use jiff::SignedDuration;

use super::{Answer, ChecklistLine, Inspection, Known};
use crate::{
    engine::ledger::EventKind,
    ground::{moment::moment, size::size},
    operate::doctor::places,
};

pub(super) fn lines(job: &Inspection, known: &Known) -> Vec<ChecklistLine> {
    vec![
        backup(job, known).line(
            "backup-job",
            "The backup job succeeded when it was last due",
            "نجحت مهمة النسخ الاحتياطي منذ آخر موعد لها",
        ),
        space(job).line(
            "free-space",
            "There is enough free space on the disks of repositories and staged files",
            "توجد مساحة حرة كافية على أقراص المستودعات والملفات المرحلية",
        ),
        snapshots(job, known).line(
            "snapshots-today",
            "Every source has a snapshot of today",
            "لكل مصدر لقطة من اليوم",
        ),
    ]
}

fn backup(job: &Inspection, known: &Known) -> Answer {
    let mut answer = Answer::new();
    let hours = i64::from(job.config.settings.status.max_age_hours);
    let since = job.last_scheduled.unwrap_or(known.now - SignedDuration::from_hours(hours));
    let asked = known.ask(|ledger| Ok((ledger.events_since(since)?, ledger.newest_parts(true)?)));
    let (events, parts) = match asked {
        Ok(asked) => asked.unwrap_or_default(),
        Err(why) => {
            answer.untold("the runs", &why);
            return answer;
        }
    };
    let kind = EventKind::Backup.word();
    let Some(last) =
        events.iter().rfind(|event| event.kind == kind && event.repository == known.primary)
    else {
        answer.against(format!("no backup into {} ended since {since}", job.primary));
        return answer;
    };
    let how =
        format!("run {} ended at {} with exit {}", last.run, moment(last.finished), last.exit);
    if last.exit == 0 {
        answer.for_it(how);
    } else {
        answer.against(how);
    }
    for source in job.config.backup_sources() {
        let good = parts.iter().map(|past| (&past.kind, &past.part)).any(|(of, part)| {
            of == kind
                && part.source == source
                && part.repository == known.primary
                && part.finished >= since
        });
        if !good {
            answer.against(format!("source {source} was not saved since {since}"));
        }
    }
    answer
}

fn space(job: &Inspection) -> Answer {
    let mut answer = Answer::new();
    let settings = &job.config.settings;
    let least = u64::from(settings.doctor.min_free_percent);
    for (what, path) in
        places(settings, &job.environment).into_iter().filter(|(what, _)| what != "state")
    {
        match job.host.facts.space(&path) {
            Ok(space) => {
                let (free, total) = (size(space.free_bytes), size(space.total_bytes));
                let seen = format!(
                    "{what}: {} % of {} is free ({free} of {total})",
                    space.free_percent(),
                    path.display()
                );
                if space.free_percent() >= least {
                    answer.for_it(seen);
                } else {
                    answer.against(seen);
                }
            }
            Err(error) => {
                answer.untold(&format!("the free space in {}", path.display()), &error.to_string());
            }
        }
    }
    answer
}

fn snapshots(job: &Inspection, known: &Known) -> Answer {
    let mut answer = Answer::new();
    let newest = match known.newest(job) {
        Ok(newest) => newest,
        Err(why) => {
            answer.untold(&format!("the content of repository {}", job.primary), &why);
            return answer;
        }
    };
    if newest.is_empty() {
        answer.against("the config has no sources");
    }
    for source in newest {
        match (source.snapshot, source.time) {
            (Some(id), Some(time)) if source.whole && !source.stale => {
                let time = moment(time);
                answer.for_it(format!("{}: {} of {time}", source.source, id.short()));
            }
            (Some(id), Some(time)) => {
                let time = moment(time);
                let whole = if source.whole { "" } else { ", which is incomplete" };
                answer.against(format!(
                    "{}: the newest is {} of {time}{whole}",
                    source.source,
                    id.short()
                ));
            }
            _ => answer.against(format!("{}: it has no snapshot", source.source)),
        }
    }
    answer
}
