//! An installation: its config, jobs, schedule and monitoring, and the checks and reports for its
//! operator.

pub mod backup_hooks;
pub mod bootstrap;
pub mod checklist;
pub mod config;
pub mod doctor;
pub mod document;
pub mod evidence;
pub mod first_config;
pub mod fleet;
mod history;
pub mod hook;
mod host_facts;
mod host_jobs;
pub mod installation;
pub mod job;
mod level_names;
pub mod metrics;
pub mod migrate;
pub mod monitor;
#[cfg(feature = "mount")]
pub mod mount;
pub mod recover;
pub mod report;
pub mod runbook;
pub mod schedule;
#[cfg(feature = "serve")]
pub mod serve;
pub mod site;
pub mod tripwire;
