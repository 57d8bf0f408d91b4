//! Jobs: what runs, and their reports.

mod backup;
mod capture;
mod election;
mod pinning;
mod queue;
mod rebuild;
mod report;
mod restoring;
mod retain;
mod run;
mod secondary;
mod slice;
mod slice_copies;
mod stage;
mod status;
mod verifying;
mod watch;

pub(crate) use self::election::{ELECTED_PATIENCE, ElectedPrune};
pub(super) use self::slice_copies::{SlicesOf, copy_slices};
pub use self::{
    backup::BackupJob,
    election::{is_shared, last_prune},
    pinning::{forget_by_id, pin},
    rebuild::rebuild,
    report::{CopyOutcome, RunReport, SecondaryReport, SourceReport},
    restoring::{Restoring, plan_restore},
    run::backup,
    secondary::SecondaryRepository,
    slice::{SliceJob, SliceReport, save_slice},
    slice_copies::SliceCopies,
    stage::{StagedFile, Staging, file_name},
    status::{
        Freshness, HostStatus, SourceStatus, StatusOf, StatusRules, freshness, status_of_hosts,
    },
    verifying::{Verified, VerifyJob, exit_of, verify},
};
