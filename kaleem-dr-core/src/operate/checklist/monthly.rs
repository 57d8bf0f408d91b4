//! Monthly: a restore was rehearsed, and it left nothing behind.

use std::{fs, io};

use jiff::SignedDuration;

use super::{Answer, ChecklistLine, Inspection, Known};
use crate::{
    engine::ledger::{ChainedReport, EventKind, PastEvent, Proof},
    ground::{ProofLevel, error_chain, moment::moment},
};

const MONTH: SignedDuration = SignedDuration::from_hours(31 * 24);
/// Maximum number of proofs of a month to read.
const MOST_PROOFS: usize = 10_000;
/// Directories and prefixes of what restores leave behind: ours, and those of the old scripts.
const LEFTOVERS: [(&str, &str); 3] =
    [("/var/tmp", "kaleem_restored_"), ("/var/tmp", "kdr_drill_"), ("/tmp", "restore-")];

pub(super) fn lines(job: &Inspection, known: &Known) -> Vec<ChecklistLine> {
    vec![
        drills(job, known).line(
            "drill",
            "The last restore drill of each repository succeeded, within 31 days",
            "نجح آخر اختبار استعادة لكل مستودع خلال 31 يومًا",
        ),
        scratch(job).line(
            "scratch",
            "No scratch directories are left over",
            "لم يبقَ شيء من مجلدات الاستعادة المؤقتة",
        ),
    ]
}

/// The ledger's entries about drills.
struct Drills {
    events: Vec<PastEvent>,
    proofs: Vec<Proof>,
    reports: Vec<ChainedReport>,
}

fn drills(job: &Inspection, known: &Known) -> Answer {
    let mut answer = Answer::new();
    let asked = known.ask(|ledger| {
        Ok(Drills {
            events: ledger.newest_events(false)?,
            proofs: ledger.proofs(MOST_PROOFS)?,
            reports: ledger.reports()?,
        })
    });
    let drills = match asked {
        Ok(drills) => {
            drills.unwrap_or(Drills { events: Vec::new(), proofs: Vec::new(), reports: Vec::new() })
        }
        Err(why) => {
            answer.untold("the drills", &why);
            return answer;
        }
    };
    for (name, repository) in &job.config.settings.repository {
        match repository.location(&job.environment) {
            Ok(location) => {
                of_repository(job, known, &drills, name, &location.in_words(), &mut answer);
            }
            Err(error) => {
                answer.untold(&format!("the drills of repository {name}"), &error_chain(&error));
            }
        }
    }
    answer
}

fn of_repository(
    job: &Inspection,
    known: &Known,
    drills: &Drills,
    name: &str,
    words: &str,
    answer: &mut Answer,
) {
    let last = drills
        .events
        .iter()
        .find(|event| event.kind == EventKind::Drill.word() && event.repository == words);
    let Some(last) = last else {
        return answer.against(format!("{name} was never drilled"));
    };
    let how = format!(
        "{name}: drill {} ended at {} with exit {}",
        last.run,
        moment(last.finished),
        last.exit
    );
    if last.exit != 0 || known.now.duration_since(last.finished) > MONTH {
        answer.against(how);
    } else {
        answer.for_it(how);
    }
    match drills.reports.iter().find(|report| report.run == last.run) {
        Some(report) => {
            answer.for_it(format!("{name}: its report has the SHA-256 {}", report.hash));
        }
        None => answer.against(format!("{name}: the report of that drill is missing")),
    }
    for source in job.config.backup_sources() {
        let proof = drills.proofs.iter().find(|proof| {
            proof.source == source
                && proof.repository == words
                && proof.is_good()
                && proof.proven == Some(ProofLevel::Restored)
                && known.now.duration_since(proof.at) <= MONTH
        });
        match proof {
            Some(proof) => {
                let id = proof.snapshot.short();
                answer.for_it(format!(
                    "{name}: {source} {id} was restored and found equal at {}",
                    proof.at
                ));
            }
            None => answer.against(format!("{name}: {source} was not restored in 31 days")),
        }
    }
}

fn scratch(job: &Inspection) -> Answer {
    let mut answer = Answer::new();
    let own = job.config.settings.scratch();
    let places = LEFTOVERS.map(|(directory, prefix)| (job.host.at(directory), prefix));
    for (directory, prefix) in [(own, "")].into_iter().chain(places) {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                answer
                    .untold(&format!("the content of {}", directory.display()), &error.to_string());
                continue;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_name().to_string_lossy().starts_with(prefix) => {
                    answer.against(format!("{} is left over", entry.path().display()));
                }
                Ok(_) => {}
                Err(error) => answer
                    .untold(&format!("the content of {}", directory.display()), &error.to_string()),
            }
        }
    }
    if answer.evidence.is_empty() {
        answer.for_it("no directory of a restore or a drill is left over");
    }
    answer
}
