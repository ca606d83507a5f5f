//! The few statements of a warehouse that change what a stream finds: columns and grants.

use delta_kernel::schema::StructField;

use super::catalog::{Catalog, TableError};
use super::ddl::{DdlError, parse_statement};
use crate::types::{InvalidTableName, TableName};

/// What a statement does to one table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// `ALTER TABLE … ADD COLUMNS (name TYPE, …)`
    AddColumns(Vec<StructField>),
    /// `ALTER TABLE … ALTER COLUMN name DROP NOT NULL`
    DropNotNull(String),
    /// `GRANT SELECT ON TABLE … TO principal`; there is only one.
    GrantSelect,
    /// `REVOKE SELECT ON TABLE … FROM principal`
    RevokeSelect,
}

/// A statement that did nothing.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// It is none that this emulator knows.
    #[error("the statement is not understood")]
    Syntax(#[from] DdlError),
    /// It is about a table whose name is none.
    #[error(transparent)]
    Name(#[from] InvalidTableName),
    /// There is no such table.
    #[error("table {table} does not exist")]
    NoSuchTable {
        /// The table.
        table: TableName,
    },
    /// The table cannot be changed so.
    #[error("the table was not changed")]
    Table(#[from] TableError),
}

/// Runs a statement. Blocks, and must not be called on a worker of a runtime.
pub(super) fn run(catalog: &Catalog, statement: &str) -> Result<(), SqlError> {
    let (name, change) = parse_statement(statement)?;
    let table: TableName = name.parse()?;
    let found = match &change {
        Change::AddColumns(_) | Change::DropNotNull(_) => catalog.alter(&table, &change)?,
        Change::GrantSelect => catalog.show(&table, true),
        Change::RevokeSelect => catalog.show(&table, false),
    };
    if found { Ok(()) } else { Err(SqlError::NoSuchTable { table }) }
}
