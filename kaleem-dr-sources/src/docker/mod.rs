//! Servers in containers: their addresses, from the Docker Engine API over the engine's socket.
//!
//! Only two calls are made, `GET /containers/json` and `GET /containers/{name}/json` (Engine API, any version), so access that is
//! restricted to reading is enough, and no `docker` program is needed. The address depends on where this process runs: on the host it
//! is a published port, or else the container's own address; in a container it is the address on a network that both are attached to.

mod address;
mod config;
mod engine;
mod lookup;
mod own;

pub use self::config::{DockerConfigError, DockerContainer};
pub(crate) use self::lookup::{LOOKUP_TIMEOUT, Lookup, LookupError};
