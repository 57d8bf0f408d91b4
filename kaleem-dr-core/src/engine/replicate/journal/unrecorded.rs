//! The journal of a build without the ledger: nothing was recorded, and nothing is. Every snapshot that only the mirror has then
//! counts as written by another program, and an object that an interrupted pass began is judged by its length.

#![allow(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the methods are those of the journal in the ledger"
)]

use std::{collections::BTreeSet, marker::PhantomData};

use jiff::Timestamp;

use super::super::{
    MirrorJob,
    inventory::{Inventory, Named},
};
use crate::engine::repository::RepositoryError;

#[derive(Clone, Copy)]
pub(in super::super) struct Journal<'a>(PhantomData<&'a MirrorJob>);

impl<'a> Journal<'a> {
    pub(in super::super) fn of(_: &'a MirrorJob, _: &'a str) -> Self {
        Self(PhantomData)
    }

    pub(in super::super) fn removed_keys(
        &self,
        _: &str,
    ) -> Result<BTreeSet<String>, RepositoryError> {
        Ok(BTreeSet::new())
    }

    pub(in super::super) fn mirrored(&self) -> Result<BTreeSet<String>, RepositoryError> {
        Ok(BTreeSet::new())
    }

    pub(in super::super) fn brought(&self) -> Result<BTreeSet<String>, RepositoryError> {
        Ok(BTreeSet::new())
    }

    pub(in super::super) fn begun(&self) -> Result<BTreeSet<String>, RepositoryError> {
        Ok(BTreeSet::new())
    }

    pub(in super::super) fn held(&self) -> Result<usize, RepositoryError> {
        Ok(0)
    }

    pub(in super::super) fn was_filled(&self) -> Result<Option<Timestamp>, RepositoryError> {
        Ok(None)
    }

    pub(in super::super) fn filled(&self) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn forget(&self) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn postpone(&self) -> Result<Option<(Timestamp, u32)>, RepositoryError> {
        Ok(None)
    }

    pub(in super::super) fn not_postponed(&self) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn saw(
        &self,
        _: &Inventory,
        _: &Inventory,
    ) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn begin(&self, _: &[Named]) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn arrived(&self, _: &[String]) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn gone(&self, _: &[Named]) -> Result<(), RepositoryError> {
        Ok(())
    }

    pub(in super::super) fn forget_beyond(
        &self,
        _: &Inventory,
        _: &Inventory,
    ) -> Result<(), RepositoryError> {
        Ok(())
    }
}
