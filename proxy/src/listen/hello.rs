//! The ClientHello: read whole, in as many pieces as it comes, and kept, so that it can be played to whoever comes next.

use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A ClientHello may take this long to arrive; then the connection is closed (`hello_timeout`).
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Greatest ClientHello that is read, in bytes with its record headers; a longer one closes the connection
/// (`hello_too_long`). Seen in the wild: below 2 KiB.
pub const MAX_HELLO: usize = 32 * 1024;

/// First byte of a TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

/// What a client says first, and the bytes in which it said so.
#[derive(Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server's name, in lower case and without a trailing dot. rustls reads none where there is no such extension, or an
    /// IP address in it; anything else that is not exactly one DNS name is [`NoHello::Malformed`].
    pub name: Option<String>,
    /// Everything read so far.
    pub bytes: Vec<u8>,
}

/// No ClientHello.
#[derive(Debug, thiserror::Error)]
pub enum NoHello {
    /// The first bytes are not TLS.
    #[error("the first bytes are not TLS")]
    NotTls {
        /// These bytes.
        bytes: Vec<u8>,
    },
    /// Closed before it was whole.
    #[error("the connection ended before the ClientHello was whole")]
    Gone,
    /// Not whole in time.
    #[error("the ClientHello was not whole after {0:?}")]
    Timeout(Duration),
    /// Longer than [`MAX_HELLO`].
    #[error("the ClientHello is longer than {MAX_HELLO} bytes")]
    TooLong,
    /// TLS, but no ClientHello that can be read.
    #[error("the ClientHello can't be read: {0}")]
    Malformed(rustls::Error),
}

impl NoHello {
    /// The fixed name of this error.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotTls { .. } => "not_tls",
            Self::Gone => "hello_incomplete",
            Self::Timeout(_) => "hello_timeout",
            Self::TooLong => "hello_too_long",
            Self::Malformed(_) => "hello_malformed",
        }
    }
}

/// Reads a whole ClientHello.
///
/// # Errors
/// [`NoHello`]
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S, limit: Duration) -> Result<Hello, NoHello> {
    tokio::time::timeout(limit, collect(stream)).await.unwrap_or(Err(NoHello::Timeout(limit)))
}

async fn collect<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Hello, NoHello> {
    let mut bytes = Vec::with_capacity(2048);
    let mut acceptor = Acceptor::default();
    loop {
        let before = bytes.len();
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return Err(NoHello::Gone);
        }
        if bytes[0] != HANDSHAKE_RECORD {
            return Err(NoHello::NotTls { bytes });
        }
        if bytes.len() > MAX_HELLO {
            return Err(NoHello::TooLong);
        }
        let mut unread = &bytes[before..];
        while !unread.is_empty() {
            // Reading from memory can't fail, but rustls refuses more than it wants to buffer.
            acceptor.read_tls(&mut unread).map_err(|_| NoHello::TooLong)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().map(normal_name);
                    return Ok(Hello { name, bytes });
                }
                Err((error, _alert)) => return Err(NoHello::Malformed(error)),
            }
        }
    }
}

/// A host name as we compare them: lower case, no trailing dot.
#[must_use]
pub fn normal_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::ClientConnection;
    use rustls::{ClientConfig, RootCertStore};
    use std::sync::Arc;

    fn client_hello(name: &'static str) -> Vec<u8> {
        let config: ClientConfig =
            runtime::tls::client_config(RootCertStore::empty(), &[b"h2"]).expect("our own settings");
        let name = name.try_into().expect("a server name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        bytes
    }

    /// The same ClientHello in records of `size` bytes.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let cut = hello[5..].chunks(size).map(|fragment| {
            let length = u16::try_from(fragment.len()).expect("small").to_be_bytes();
            [&[22, 3, 1], &length[..], fragment].concat()
        });
        cut.flatten().collect()
    }

    async fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Hello, NoHello> {
        let mut stream = tokio_test_stream(bytes, piece);
        read(&mut stream, Duration::from_secs(5)).await
    }

    fn tokio_test_stream(bytes: &[u8], piece: usize) -> tokio::io::DuplexStream {
        let (mut near, far) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            let _written = near.write_all(&bytes).await.is_ok();
        });
        far
    }

    #[tokio::test]
    async fn whole_in_pieces_and_in_many_records() {
        let hello = client_hello("BigQuery.googleapis.com");
        for (bytes, piece) in [(hello.clone(), 7), (hello.clone(), 1 << 16), (in_records(&hello, 40), 1000)] {
            let read = read_in_pieces(&bytes, piece).await.expect("a ClientHello");
            assert_eq!(read.name, Some("bigquery.googleapis.com".to_owned()));
            assert_eq!(read.bytes, bytes, "every byte is kept");
        }
    }

    #[tokio::test]
    async fn a_name_that_others_may_read_differently_is_no_hello() {
        let none = client_hello("192.0.2.1");
        assert_eq!(read_in_pieces(&none, 9).await.expect("hello").name, None);
        let mut odd = client_hello("bigquery.googleapis.com");
        let at = odd.windows(8).position(|w| w == b"bigquery").expect("the name is in it");
        odd[at] = b' ';
        for bytes in [in_records(&odd, 33), odd] {
            assert_eq!(read_in_pieces(&bytes, 500).await.expect_err("unclear").category(), "hello_malformed");
        }
    }

    #[tokio::test]
    async fn what_is_no_hello() {
        let category = |result: Result<Hello, NoHello>| result.expect_err("no hello").category();
        assert_eq!(category(read_in_pieces(b"GET / HTTP/1.1\r\n", 100).await), "not_tls");
        assert_eq!(category(read_in_pieces(b"", 100).await), "hello_incomplete");
        assert_eq!(
            category(read_in_pieces(&client_hello("a.example")[..100], 100).await),
            "hello_incomplete"
        );
        assert_eq!(category(read_in_pieces(b"\x16\x03\x01\x00\x05hello", 100).await), "hello_malformed");
        let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 70_000]].concat();
        assert_ne!(category(read_in_pieces(&endless, 1 << 16).await), "hello_incomplete");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hello_that_is_never_finished_ends() {
        let (mut near, mut far) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut near, &[22, 3, 1]).await.expect("room");
        let result = read(&mut far, HELLO_TIMEOUT).await;
        assert_eq!(result.expect_err("never whole").category(), "hello_timeout");
    }
}
