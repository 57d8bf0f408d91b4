//! Sizes for people.

/// Formats a number of bytes like `1.4 GiB`, as restic does.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a size for people")]
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
