//! The conversion by itself: reads an Arrow IPC stream from standard input and writes what the service would get.
//!
//! ```text
//! cargo run --example encode < batches.arrows > records
//! ```
//!
//! Standard output has messages, each behind its length as a varint: the `DescriptorProto` of the records first, then the
//! records. Rows that cannot be converted are named on standard error, one JSON object per line.

use std::error::Error;
use std::io::{self, BufReader, BufWriter, Write};

use arrow_ipc::reader::StreamReader;
use arrow_zerobus_sdk_wrapper::convert::{Plan, Policies, Records};
use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let batches = StreamReader::try_new(BufReader::new(io::stdin().lock()), None)?;
    let plan = Plan::new(&batches.schema(), None, Policies::default())?;
    let mut out = BufWriter::new(io::stdout().lock());
    out.write_all(&plan.descriptor().encode_length_delimited_to_vec())?;
    let mut records = Records::new();
    let mut length = Vec::new();
    let mut first_row = 0;
    for batch in batches {
        let batch = batch?;
        records.clear();
        for error in plan.encode(&batch, 0..batch.num_rows(), &mut records).refused {
            let (row, column, reason) = (first_row + error.row, error.column, error.reason.to_string());
            eprintln!("{}", serde_json::json!({ "row": row, "column": column, "reason": reason }));
        }
        for index in 0..records.len() {
            length.clear();
            prost::encode_length_delimiter(records.record(index).len(), &mut length)?;
            out.write_all(&length)?;
            out.write_all(records.record(index))?;
        }
        first_row += batch.num_rows();
    }
    Ok(out.flush()?)
}
