//! Who was told, and metrics for scripts.

use kaleem_dr_core::operate::{metrics::Value, monitor::Told};

use super::{Printed, document, line};

pub fn told(told: &[Told], json: bool) -> Printed {
    if json {
        return document(&told);
    }
    told.iter().try_for_each(|told| match &told.error {
        None => line(&format!("told  {}", told.whom)),
        Some(error) => line(&format!("NOT   {}: {error}", told.whom)),
    })
}

pub fn metrics(values: &[Value]) -> Printed {
    document(&values)
}
