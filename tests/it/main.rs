//! What an operator does with kaleem-dr, on real servers. One file a capability.

mod crash;
mod gate;
mod locks;
mod mongodb;
mod rabbitmq;
mod secrets;
mod spine;
mod support;
