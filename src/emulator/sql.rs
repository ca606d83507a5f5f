//! The few statements of a warehouse that change what a stream finds: tables, columns and grants.

use delta_kernel::schema::{StructField, StructType};

use super::catalog::{Catalog, TableError};
use super::ddl::{DdlError, parse_statement};
use crate::types::{InvalidTableName, TableName};

/// What a statement does to one table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Statement {
    /// `CREATE TABLE … (name TYPE, …)`
    Create(StructType),
    /// `DROP TABLE …`
    Drop,
    /// `ALTER TABLE …`
    Alter(Change),
    /// `GRANT privilege ON TABLE … TO principal`; there is only one.
    Grant(Privilege),
    /// `REVOKE privilege ON TABLE … FROM principal`
    Revoke(Privilege),
}

/// What becomes of the columns of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// `ADD COLUMNS (name TYPE, …)`
    AddColumns(Vec<StructField>),
    /// `ALTER COLUMN name DROP NOT NULL`
    DropNotNull(String),
}

/// What the client may do with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Privilege {
    /// Have it shown by the catalog.
    Select,
    /// Write to it.
    Modify,
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
    let (name, statement) = parse_statement(statement)?;
    let table: TableName = name.parse()?;
    let found = match &statement {
        Statement::Create(columns) => catalog.create(&table, columns).map(|_| true)?,
        Statement::Drop => catalog.drop_table(&table)?,
        Statement::Alter(change) => catalog.alter(&table, change)?,
        Statement::Grant(privilege) => catalog.grant(&table, *privilege, true),
        Statement::Revoke(privilege) => catalog.grant(&table, *privilege, false),
    };
    if found { Ok(()) } else { Err(SqlError::NoSuchTable { table }) }
}
