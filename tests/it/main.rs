//! Tests of what an operator does with kaleem-dr, on real servers. One file a capability.

#![allow(
    clippy::needless_pass_by_value,
    clippy::struct_excessive_bools,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "JSON is handed over as it is written, a fault is a switch, and the names are our own"
)]

mod append_only;
mod archive;
mod archive_files;
mod bootstrap;
mod buckets;
mod checklist;
mod closed_places;
mod commands;
mod config_init;
mod copy;
mod crash;
mod damaged;
mod docker;
mod docs;
mod doctor;
mod drill;
mod election;
mod embed;
mod evidence;
mod faults;
mod file_archiver;
mod files;
mod files_restore;
mod files_walk;
mod first_hour;
mod fleet;
mod foreign_tars;
mod fresh_machine;
mod from_nothing;
mod gate;
mod hostile_tars;
mod hosts;
mod hosts_at_once;
mod json;
mod keys;
mod kubernetes;
mod locks;
mod look;
mod look_points;
mod memory;
mod metrics;
mod migrate;
mod mirror_guard;
mod mongodb;
mod mongodb_capture;
mod mongodb_moment;
mod mongodb_pitr;
mod mongodb_restore;
mod mongodb_resume;
mod monitor;
mod mount;
mod n8n;
mod notify;
mod notify_people;
mod packages;
mod qdrant;
mod qdrant_cluster;
mod qdrant_engine;
mod qdrant_faults;
mod qdrant_files;
mod qdrant_servers;
mod rabbitmq;
mod rabbitmq_plan;
mod rabbitmq_releases;
mod recover;
mod recover_continued;
mod remote;
mod replicate;
mod replicate_faults;
mod report;
mod repository;
mod runbook;
mod schedule;
mod second;
mod secrets;
mod serve;
mod serve_browser;
mod signals;
mod spine;
mod staged;
mod support;
mod systemd;
mod taking_over;
mod tripwires;
mod truth;
mod verify;
