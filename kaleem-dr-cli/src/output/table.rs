//! Tables.

use comfy_table::{Table, presets};

/// A table without borders, with this header.
pub fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}
