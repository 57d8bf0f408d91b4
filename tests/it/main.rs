//! What an operator does with kaleem-dr, on real servers. One file a capability.

mod gate;
mod mongodb;
mod rabbitmq;
mod spine;
mod support;
