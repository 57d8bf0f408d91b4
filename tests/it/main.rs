//! What an operator does with kaleem-dr, on real servers. One file a capability.

mod mongodb;
mod support;
