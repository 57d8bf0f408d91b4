//! The recovery of everything: the points that belong together, the plan that the operator agrees
//! to, the journal that a killed recovery continues from, and the report.
//!
//! [`Site::recover`](crate::Site::recover) does the work.

mod forecast;
mod journal;
mod options;
mod plan;
mod points;
mod report;
mod whole;

pub use self::{
    forecast::Forecast,
    journal::JournalError,
    options::Recover,
    plan::{PlannedRepository, PlannedSource, RecoveryPlan, RepositoryFrom},
    report::{Left, RecoveryReport, RepositoryOutcome},
};
pub(crate) use self::{
    forecast::{forecast_of, in_groups, one_after_another},
    journal::{Entry, Journal, State},
    points::{Chosen, choose_together},
    report::{line_of_error, line_of_restore, line_of_unavailable},
    whole::WholeProgress,
};
