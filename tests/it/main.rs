//! What an operator does with kaleem-dr, on real servers. One file a capability.

mod archive_files;
mod crash;
mod embed;
mod faults;
mod files;
mod gate;
mod locks;
mod mongodb;
mod n8n;
mod rabbitmq;
mod repository;
mod secrets;
mod spine;
mod support;
