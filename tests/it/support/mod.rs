//! Servers, seeds and stock tools for the tests.
//!
//! A helper panics with a message if it fails; assertions about the code under test are in the test
//! itself.

pub mod amqp_connection;
pub mod archive;
pub mod browser;
pub mod docker;
pub mod everything;
pub mod faulty_s3;
pub mod faulty_store;
pub mod healthchecks_stand_in;
pub mod lost;
pub mod mirror;
pub mod mongo_proxy;
pub mod mongo_writer;
pub mod page;
pub mod points;
pub mod process;
pub mod program;
pub mod qdrant_cluster_stand_in;
pub mod qdrant_scene;
pub mod qdrant_stand_in;
pub mod regional_s3_fake;
pub mod restic;
pub mod seed;
pub mod served;
pub mod servers;
pub mod site;
pub mod smtp_server;
pub mod systemd;
pub mod tars;
pub mod terminal;
pub mod tree;
