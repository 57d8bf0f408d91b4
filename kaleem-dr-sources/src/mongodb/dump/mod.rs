//! The dump: writing a capture in mongodump's directory layout, reading it back, and inspecting it.

pub(crate) mod batch;
mod capture;
pub(crate) mod catalogue;
mod differences;
mod documents;
mod identity;
mod inspect;
pub(crate) mod metadata;
pub(crate) mod moment;
pub(crate) mod oplog;
mod pieces;
mod position;
pub(crate) mod range;
pub(crate) mod ranges;
pub(crate) mod reader;
pub(crate) mod slice;
pub(crate) mod snapshot;
pub(crate) mod wellformed;

pub(crate) use self::{
    capture::{CaptureOrder, capture},
    differences::differences,
    documents::{DataPlace, DocumentSplitter, documents},
    inspect::inspect,
    reader::{CollectionReader, Read},
};
