//! Sends rows again that were refused, once the table takes them: the files of the quarantine are Arrow files.
//!
//! ```text
//! cargo run --example replay                # with the environment of examples/quickstart.rs
//! ```

#![expect(clippy::disallowed_methods, reason = "an example is a program of somebody else")]

use std::error::Error;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let wrapper = ZerobusWrapper::open(WrapperConfiguration::from_env()?)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(wrapper.status().quarantine.directory)
        .into_iter()
        .flatten()
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "arrow"));
    files.sort();

    for path in files {
        for batch in FileReader::try_new(File::open(&path)?, None)? {
            let batch = as_it_was_sent(&batch?)?;
            let result = wrapper.send_batch(batch).await?;
            println!("{} is stored again as frame {:?}", path.display(), result.lsn);
        }
        // Only now that its rows are in the log. Killed just before, the next run sends them twice.
        std::fs::remove_file(&path)?;
    }
    wrapper.flush(Some(Duration::from_secs(60))).await?;
    wrapper.shutdown().await?;
    Ok(())
}

/// Without the columns that say why it was refused.
fn as_it_was_sent(batch: &RecordBatch) -> Result<RecordBatch, Box<dyn Error>> {
    let fields = batch.schema_ref().fields().iter().enumerate();
    let own: Vec<usize> =
        fields.filter(|(_, field)| !field.name().starts_with("_zerobus_")).map(|(index, _)| index).collect();
    Ok(batch.project(&own)?)
}
