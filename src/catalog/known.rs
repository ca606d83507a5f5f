//! What is known of the columns of the table, since when, and why not more.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::error::{CatalogError, CatalogErrorClass};
use crate::convert::TableSchema;
use crate::demand::Demand;
use crate::error::chain;

/// What is known at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Counts the changes of `schema`: what was planned for one version may not hold for the next.
    pub(crate) version: u64,
    /// The columns; `None` if nothing is known of them.
    pub(crate) schema: Option<Arc<TableSchema>>,
    /// When the catalog told them last, in microseconds since 1970.
    pub(crate) read_unix_micros: i64,
    /// Why that may not be how the table is now.
    pub(crate) doubt: Option<Doubt>,
}

/// Why something is not known, or not known for sure.
#[derive(Clone, Debug)]
pub(crate) enum Doubt {
    /// Nobody can be asked.
    NoCatalog,
    /// Nobody was asked since the log was opened.
    NotAsked,
    /// The last one who was asked did not tell.
    Failed(CatalogError),
    /// The catalog could not be asked, and the service has refused a stream for what was known until then.
    Refuted,
}

/// The columns of the table for everybody who needs them.
#[derive(Debug)]
pub(crate) struct KnownTable {
    known: watch::Sender<Arc<Known>>,
    /// Wishes that the catalog be asked again.
    pub(super) rereads: Demand,
}

impl KnownTable {
    /// Begins with what an earlier owner of the log knew and when that was read.
    pub(crate) fn new(cached: Option<(TableSchema, i64)>) -> KnownTable {
        let (schema, read_unix_micros) = cached.map_or((None, 0), |(schema, at)| (Some(schema.into()), at));
        let known = Known { version: 0, schema, read_unix_micros, doubt: Some(Doubt::NotAsked) };
        KnownTable { known: watch::Sender::new(Arc::new(known)), rereads: Demand::new() }
    }

    /// As [`KnownTable::new`], where there is no catalog to ask.
    pub(crate) fn without_catalog(cached: Option<(TableSchema, i64)>) -> KnownTable {
        let table = KnownTable::new(cached);
        table.known.send_modify(|known| Arc::make_mut(known).doubt = Some(Doubt::NoCatalog));
        table.rereads.close();
        table
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }

    /// Whether nothing is known, and nobody was asked yet.
    pub(crate) fn is_unknown(&self) -> bool {
        let known = self.known.borrow();
        known.schema.is_none() && matches!(known.doubt, Some(Doubt::NotAsked))
    }

    /// Whether the last one who was asked did not tell.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.known.borrow().doubt, Some(Doubt::Failed(_)))
    }

    /// For those who want to hear of every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    /// What is known once the catalog was asked, or could not be. See the reader for how often it really is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing; the question may be asked all the same.
    pub(crate) async fn reread(&self) -> Arc<Known> {
        self.rereads.answer_to(self.rereads.ask()).await;
        self.now()
    }

    /// To be called when the service has refused a stream. Forgets the columns if the catalog could not confirm them:
    /// the table may have changed, and a descriptor from the Arrow schema may be right. Says whether it did.
    pub(crate) fn distrust(&self) -> bool {
        self.known.send_if_modified(|known| {
            let is_doubted = known.schema.is_some() && known.doubt.is_some();
            if is_doubted {
                tracing::warn!("the service refused the columns that were known last; they are forgotten");
                *known = Arc::new(known.forgotten(Doubt::Refuted));
            }
            is_doubted
        })
    }

    /// Takes in what came of asking the catalog.
    pub(super) fn heard(&self, outcome: Result<TableSchema, CatalogError>, unix_micros: i64) {
        self.known.send_modify(|known| {
            let next = known.after(outcome, unix_micros);
            if next.version != known.version {
                let columns = next.schema.as_ref().map(|schema| schema.columns.len());
                tracing::info!(columns, "the table's columns are other ones than were known before");
            }
            let told = |doubt: &Option<Doubt>| doubt.as_ref().map(ToString::to_string);
            if let Some(reason) =
                told(&next.doubt).filter(|reason| told(&known.doubt).as_ref() != Some(reason))
            {
                tracing::warn!(reason, "the table's columns cannot be read");
            }
            *known = Arc::new(next);
        });
    }
}

impl Known {
    /// Why the table may be another one than this, as long as the catalog is away: nobody has an answer, and there will be
    /// one.
    pub(crate) fn why_unconfirmed(&self) -> Option<&Doubt> {
        let is_away = |doubt: &&Doubt| match doubt {
            Doubt::NotAsked => true,
            Doubt::Failed(error) => error.class() == CatalogErrorClass::Transient,
            Doubt::NoCatalog | Doubt::Refuted => false,
        };
        self.doubt.as_ref().filter(is_away).filter(|_| self.schema.is_some())
    }

    fn after(&self, outcome: Result<TableSchema, CatalogError>, unix_micros: i64) -> Known {
        match outcome {
            Ok(read) => {
                let same = self.schema.clone().filter(|known| **known == read);
                let version = self.version + u64::from(same.is_none());
                let schema = same.unwrap_or_else(|| Arc::new(read));
                Known { version, schema: Some(schema), read_unix_micros: unix_micros, doubt: None }
            }
            Err(error) => match error.class() {
                // It says nothing about the table.
                CatalogErrorClass::Transient | CatalogErrorClass::Blocked => {
                    Known { doubt: Some(Doubt::Failed(error)), ..self.clone() }
                }
                CatalogErrorClass::NoSuchTable | CatalogErrorClass::Unsuitable => {
                    self.forgotten(Doubt::Failed(error))
                }
            },
        }
    }

    fn forgotten(&self, doubt: Doubt) -> Known {
        Known {
            version: self.version + u64::from(self.schema.is_some()),
            schema: None,
            read_unix_micros: 0,
            doubt: Some(doubt),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::NoCatalog => f.write_str("there are no credentials to ask the catalog with"),
            Doubt::NotAsked => f.write_str("the catalog was not asked yet"),
            Doubt::Failed(error) => f.write_str(&chain(error)),
            Doubt::Refuted => {
                f.write_str("the service refused what was known, and the catalog cannot be asked")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{DeltaType, TableColumn};

    fn schema(name: &str) -> TableSchema {
        let column =
            TableColumn { name: name.to_owned(), number: 1, delta_type: DeltaType::Long, nullable: true };
        TableSchema { columns: vec![column] }
    }

    fn away() -> CatalogError {
        CatalogError::Away { reason: "no route".to_owned() }
    }

    fn gone() -> CatalogError {
        CatalogError::NoSuchTable { table: "a.b.c".parse().unwrap() }
    }

    #[test]
    fn a_version_stands_for_the_same_columns_whenever_they_were_read() {
        let table = KnownTable::new(Some((schema("a"), 5)));
        assert_eq!((table.now().version, table.now().read_unix_micros), (0, 5));
        table.heard(Ok(schema("a")), 10);
        assert_eq!((table.now().version, table.now().read_unix_micros), (0, 10));
        assert!(table.now().doubt.is_none());
        table.heard(Ok(schema("b")), 20);
        assert_eq!((table.now().version, table.now().read_unix_micros), (1, 20));
    }

    #[test]
    fn a_catalog_that_is_away_leaves_what_was_known_and_a_missing_table_does_not() {
        let table = KnownTable::new(Some((schema("a"), 5)));
        table.heard(Err(away()), 10);
        assert_eq!((table.now().version, table.now().read_unix_micros), (0, 5));
        assert!(table.now().schema.is_some());
        assert!(table.now().doubt.as_ref().unwrap().to_string().contains("no route"));
        table.heard(Err(gone()), 20);
        assert!(table.now().schema.is_none());
        assert_eq!(table.now().version, 1);
        table.heard(Err(gone()), 30);
        assert_eq!(table.now().version, 1, "still nothing is known");
    }

    #[test]
    fn only_what_the_catalog_could_not_confirm_is_distrusted() {
        let table = KnownTable::new(None);
        assert!(!table.distrust(), "there is nothing to forget");
        table.heard(Ok(schema("a")), 10);
        assert!(!table.distrust(), "the catalog has just confirmed it");
        table.heard(Err(away()), 20);
        assert!(table.distrust());
        assert!(table.now().schema.is_none());
    }

    #[tokio::test]
    async fn without_a_catalog_nobody_waits_for_one() {
        let known = KnownTable::without_catalog(None).reread().await;
        assert!(known.schema.is_none());
        assert!(matches!(known.doubt, Some(Doubt::NoCatalog)));
    }
}
