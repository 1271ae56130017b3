//! What a BigQuery call means: which method it is, what it asks for, what was answered. Pure: bytes in, meaning out.
//!
//! A call is read in three phases, each as soon as its bytes are there:
//!
//! 1. [`recognise`]: verb, host, path and headers name the method, and say what to do with the body.
//! 2. [`intent`]: the body that decides says which SQL, which tables, which job. What two readers could read differently is
//!    refused, because a record of it would be no evidence.
//! 3. [`read_answer`]: what BigQuery reported. It wins over what was read from the SQL, and is marked when it was cut.
//!
//! | module | says |
//! |---|---|
//! | `hosts`, `lookalike` | which hosts are BigQuery's, and which paths on others |
//! | `methods`, `method_table`, `sister_table`, `grpc` | which method a path names |
//! | `path` | decoding and redaction |
//! | `json`, `request` | bodies that every reader reads alike, and the parts of them that matter |
//! | `rows` | how many rows an insertAll has |
//! | `secrets` | bodies without the passwords in them |
//! | [`scan`] | what SQL does, and to which tables |
//! | [`upload`] | multipart and resumable uploads |
//! | `answer` | what came back |

mod answer;
mod bounded;
mod grpc;
mod hosts;
mod intent;
mod json;
mod lookalike;
mod method_table;
mod methods;
mod path;
mod recognise;
mod refusal;
mod request;
mod rows;
pub mod scan;
mod secrets;
mod sister_table;
pub mod upload;
mod walk;

pub use answer::{Answer, read_answer};
pub use hosts::{HostClass, classify_host, google_labels};
pub use intent::{Understood, intent};
pub use lookalike::is_bigquery_path;
pub use method_table::REVISION;
pub use path::{decode_lossy as decode_parameter, decode_twice as decode_path};
pub use recognise::{BodyPlan, MAX_DECIDING_BODY, Recognised, Upload, other, recognise};
pub use refusal::Refusal;
pub use rows::RowCounter;
