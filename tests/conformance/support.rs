//! The servers and stores that the integration tests use too.

#![allow(dead_code, reason = "each test target uses a part of the support")]

#[path = "../it/support/faulty_s3.rs"]
pub mod faulty_s3;
#[path = "../it/support/faulty_store.rs"]
pub mod faulty_store;
#[path = "../it/support/served.rs"]
pub mod served;
#[path = "../it/support/servers.rs"]
pub mod servers;
