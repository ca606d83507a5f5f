//! Why the catalog did not tell the columns of the table.

use std::time::Duration;

use super::columns::ColumnsError;
use crate::transport::{ErrorClass, TransportError};
use crate::types::TableName;

/// The columns of the table could not be read from the catalog.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    /// There is no token to ask with.
    #[error("the catalog cannot be asked")]
    Token(#[source] TransportError),
    /// There was no answer, or one that passes by itself.
    #[error("the catalog is away: {reason}")]
    Away {
        /// What was found instead.
        reason: String,
    },
    /// There was no answer in time.
    #[error("the catalog did not answer within {} s", .timeout.as_secs())]
    Timeout {
        /// The time that it had.
        timeout: Duration,
    },
    /// The catalog does not show us the table; reading it needs SELECT on the table.
    #[error("the catalog does not show table {table}, which needs SELECT on it: {answer}")]
    Refused {
        /// The table.
        table: TableName,
        /// What the catalog said.
        answer: String,
    },
    /// There is no such table.
    #[error("the catalog has no table {table}")]
    NoSuchTable {
        /// The table.
        table: TableName,
    },
    /// The table, or what the catalog said, is nothing that records can be made for.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
}

/// What to think of a failure of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatalogErrorClass {
    /// It says nothing about the table and passes by itself.
    Transient,
    /// It says nothing about the table and lasts until somebody changes a grant or a secret.
    Blocked,
    /// The table is gone, or not there yet.
    NoSuchTable,
    /// The table is there, and has columns that the service cannot fill.
    Unsuitable,
}

impl CatalogError {
    /// What to think of it.
    pub(crate) fn class(&self) -> CatalogErrorClass {
        match self {
            CatalogError::Token(error) if error.class == ErrorClass::Transient => {
                CatalogErrorClass::Transient
            }
            CatalogError::Token(_) | CatalogError::Refused { .. } => CatalogErrorClass::Blocked,
            CatalogError::Away { .. } | CatalogError::Timeout { .. } => CatalogErrorClass::Transient,
            CatalogError::NoSuchTable { .. } => CatalogErrorClass::NoSuchTable,
            CatalogError::Columns(_) => CatalogErrorClass::Unsuitable,
        }
    }
}
