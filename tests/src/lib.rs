//! The whole system under test: real clients, an emulator, faults; and the demo.
//!
//! ```text
//! bq, Python ──CONNECT──> proxy ──TLS──> front ──HTTP──> emulator
//!                           └──TLS──> recorder <──TLS── bqwitness
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`tools`] | what `tests/setup` has put on this machine |
//! | [`ca`], [`identity`] | a certificate authority, and a cluster that signs service account tokens |
//! | [`google`] | a token service, an IAM service and a metadata server that check what they are shown |
//! | [`emulator`], [`front`] | "BigQuery": an emulator, and before it TLS that counts what arrives |
//! | [`cluster`] | a real Kubernetes control plane, with kubectl and helm |
//! | [`kubelet`], [`names`] | runs a pod as the control plane has it; the cluster's name server |
//! | [`gate`] | before the recorder: notes its receipts, and may be slow or refuse |
//! | [`audit`] | what must hold after any fault |
//! | [`speaker`] | what a sidecar or an operator says, without one |
//! | [`chart`] | the Helm chart, rendered |
//! | [`canned`], [`memory`] | a "BigQuery" that always says the same; a memory limit for a process |
//! | [`process`] | our programs and the emulator as child processes |
//! | [`foreign`] | a checker of logs and proofs that we did not write |
//! | [`agent`], [`tunnel`] | unmodified clients, and a way to BigQuery that does not record |
//! | [`namespace`], [`pod`] | a pod's network, whose rules leave an agent no other way, and a pod in it with all that it needs |
//! | [`bench`] | figures: how fast, how soon, in how much memory |

pub mod agent;
pub mod audit;
pub mod bench;
pub mod ca;
pub mod canned;
pub mod chart;
pub mod cluster;
pub mod emulator;
pub mod foreign;
pub mod front;
pub mod gate;
pub mod google;
pub mod heartbeats;
pub mod identity;
pub mod kubelet;
pub mod log;
pub mod memory;
pub mod names;
pub mod namespace;
pub mod narrator;
pub mod plain;
pub mod pod;
pub mod process;
pub mod programs;
pub mod skip;
pub mod speaker;
pub mod stage;
pub mod story;
pub mod tools;
pub mod trouble;
pub mod tunnel;
