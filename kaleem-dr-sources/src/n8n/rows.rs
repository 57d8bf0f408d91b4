//! The rows of a database as keys and bytes, to compare two databases.

use std::path::Path;

use kaleem_dr_core::ground::SourceError;
use rusqlite::{Connection, types::ValueRef};

use super::{
    connection::failed,
    database::{quiet, quoted},
};

/// A column: its name, and its place in the primary key, from 1; 0 if it is not part of it.
type Column = (String, i32);

/// Receives the key and the content of a row.
pub(super) type EachRow<'a> = dyn FnMut(&str, &[u8]) -> Result<(), SourceError> + 'a;

/// Reports whether a table has the same columns and the same primary key in two databases. Blocking.
pub(super) fn is_same_shape(old: &Path, new: &Path, table: &str) -> Result<bool, SourceError> {
    let of = |path: &Path| -> Result<Vec<Column>, SourceError> {
        let mut columns = columns(&quiet(path)?, table).map_err(failed(path, "be read"))?;
        columns.sort();
        Ok(columns)
    };
    Ok(of(old)? == of(new)?)
}

/// Calls `each` with the key of every row of a table, as text, and with its content. A table without a primary key has whole rows as
/// keys. Blocking.
pub(super) fn each_row(
    path: &Path,
    table: &str,
    each: &mut EachRow<'_>,
) -> Result<(), SourceError> {
    let failed = || failed(path, "be read");
    let database = quiet(path)?;
    let columns = columns(&database, table).map_err(failed())?;
    let mut order: Vec<usize> = (0..columns.len()).collect();
    // The content does not depend on the order in which columns were added.
    order.sort_by(|a, b| columns[*a].0.cmp(&columns[*b].0));
    let mut keys: Vec<usize> = (0..columns.len()).filter(|at| columns[*at].1 > 0).collect();
    keys.sort_by_key(|at| columns[*at].1);
    if keys.is_empty() {
        keys.clone_from(&order);
    }
    let mut query =
        database.prepare(&format!("SELECT * FROM {}", quoted(table))).map_err(failed())?;
    let mut rows = query.query([]).map_err(failed())?;
    let (mut key, mut content) = (String::new(), Vec::new());
    while let Some(row) = rows.next().map_err(failed())? {
        key.clear();
        content.clear();
        for &at in &keys {
            if !key.is_empty() {
                key.push('/');
            }
            key.push_str(&shown(row.get_ref(at).map_err(failed())?));
        }
        for &at in &order {
            content.extend_from_slice(columns[at].0.as_bytes());
            encode(row.get_ref(at).map_err(failed())?, &mut content);
        }
        each(&key, &content)?;
    }
    Ok(())
}

fn columns(database: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    database
        .prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

/// Appends a value with its type and length, so that no two lists of values have the same bytes.
fn encode(value: ValueRef<'_>, to: &mut Vec<u8>) {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_le_bytes()),
        ValueRef::Real(number) => (2, &number.to_bits().to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    to.push(kind);
    to.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    to.extend_from_slice(bytes);
}
