//! The append-only service: takes entries, keeps the log, answers searches.
