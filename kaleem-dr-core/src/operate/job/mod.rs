//! Jobs: what runs, and what it reports.

mod backup;
mod further;
mod history;
mod pinning;
mod queue;
mod rebuild;
mod report;
mod restoring;
mod retain;
mod stage;
mod status;
mod verifying;
mod watch;

pub use self::{
    backup::{BackupJob, backup},
    further::FurtherRepository,
    pinning::{forget_by_id, pin},
    rebuild::rebuild,
    report::{CopyOutcome, FurtherReport, RunReport, SourceReport},
    restoring::{Restoring, plan_restore},
    stage::{StagedFile, Staging, file_name},
    status::{
        Freshness, HostStatus, SourceStatus, StatusOf, StatusRules, freshness, status_of_hosts,
    },
    verifying::{VerifyJob, exit_of, verify},
};
