//! A session's hash chain: which bytes are submitted as its next statement. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::batch::RECORD_HEADER;
use ledger::blob::Blob;
use ledger::digest::Digest;
use ledger::statement::{BadStatement, Body, Claimed, Connection, Observed, Statement, VERSION};
use uuid::Uuid;

/// What a statement says, before it has its place in the session.
#[derive(Debug, Default)]
pub(super) struct Saying {
    /// The connection that it is about, where that is not the session's.
    pub(super) connection: Option<Connection>,
    pub(super) observed: Observed,
    pub(super) claimed: Claimed,
    pub(super) blobs: Vec<(&'static str, Blob)>,
    pub(super) body: Body,
}

/// A statement with its place: the bytes to submit, and the blobs that travel with them.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) seq: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) blobs: Vec<Blob>,
}

impl Placed {
    /// Bytes that this takes in a batch.
    pub(super) fn encoded_len(&self) -> usize {
        let records =
            std::iter::once(self.bytes.len()).chain(self.blobs.iter().map(|blob| blob.as_bytes().len()));
        records.map(|length| RECORD_HEADER + length).sum()
    }
}

/// The end of a session's chain.
#[derive(Debug)]
pub(super) struct Chain {
    session: Uuid,
    connection: Option<Connection>,
    next: u64,
    prev: Option<Digest>,
}

impl Chain {
    pub(super) fn new(session: Uuid, connection: Option<Connection>) -> Self {
        Self { session, connection, next: 0, prev: None }
    }

    pub(super) fn session(&self) -> Uuid {
        self.session
    }

    /// Gives a saying the next place. On an error the chain is as it was.
    pub(super) fn place(&mut self, saying: Saying, now: Timestamp) -> Result<Placed, BadStatement> {
        let kind = saying.body.kind().expect("every saying has the part of exactly one kind");
        let blobs = saying.blobs.iter().map(|(role, blob)| ((*role).to_owned(), blob.reference()));
        let statement = Statement {
            v: VERSION,
            kind: kind.into(),
            time: now,
            connection: saying.connection.or_else(|| self.connection.clone()),
            session: self.session,
            seq: self.next,
            prev: self.prev,
            observed: saying.observed,
            claimed: saying.claimed,
            blobs: blobs.collect::<BTreeMap<_, _>>(),
            body: saying.body,
        };
        let bytes = statement.to_bytes()?;
        self.next += 1;
        self.prev = Some(Digest::of(&bytes));
        let blobs = saying.blobs.into_iter().map(|(_, blob)| blob).collect();
        Ok(Placed { seq: statement.seq, bytes, blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::statement::{Heartbeat, MAX_STATEMENT};

    fn heartbeat() -> Saying {
        Saying {
            body: Body { heartbeat: Some(Heartbeat::default()), ..Body::default() },
            ..Saying::default()
        }
    }

    fn chain() -> Chain {
        let connection = Connection {
            namespace: "agents".into(),
            name: "billing".into(),
            uid: String::new(),
            generation: 0,
            spec_digest: None,
        };
        Chain::new(Uuid::from_u128(1), Some(connection))
    }

    #[test]
    fn each_statement_names_the_bytes_before_it() {
        let mut chain = chain();
        let first = chain.place(heartbeat(), Timestamp::UNIX_EPOCH).unwrap();
        let second = chain.place(heartbeat(), Timestamp::UNIX_EPOCH).unwrap();
        let read = Statement::parse(&second.bytes).unwrap();
        assert_eq!((first.seq, second.seq, read.seq), (0, 1, 1));
        assert_eq!(read.prev, Some(Digest::of(&first.bytes)));
        assert_eq!(Statement::parse(&first.bytes).unwrap().prev, None);
    }

    #[test]
    fn a_statement_is_of_the_sessions_connection_or_its_own() {
        let mut chain = chain();
        let usual = chain.place(heartbeat(), Timestamp::UNIX_EPOCH).unwrap();
        let own = Connection { name: "sales".into(), ..chain.connection.clone().unwrap() };
        let about = Saying { connection: Some(own), ..heartbeat() };
        let about = chain.place(about, Timestamp::UNIX_EPOCH).unwrap();
        let name = |placed: &Placed| Statement::parse(&placed.bytes).unwrap().connection.unwrap().name;
        assert_eq!((name(&usual).as_str(), name(&about).as_str()), ("billing", "sales"));
    }

    #[test]
    fn a_statement_that_is_too_large_takes_no_place() {
        let mut chain = chain();
        let mut large = heartbeat();
        large.claimed.user_agent = Some("x".repeat(MAX_STATEMENT));
        assert!(matches!(chain.place(large, Timestamp::UNIX_EPOCH), Err(BadStatement::TooLarge(_))));
        assert_eq!(chain.place(heartbeat(), Timestamp::UNIX_EPOCH).unwrap().seq, 0);
    }
}
