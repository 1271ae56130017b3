//! Bounds of HTTP and of connections. What happens at each is said here; larger ones would let one agent starve the others.

use std::time::Duration;

/// Connections of agents that are open at once. More wait in the system's queue until one ends.
pub const MAX_CONNECTIONS: usize = 4096;

/// A request line with its headers, in bytes; above it the agent is answered 431 and the connection closes.
pub const HTTP1_HEAD: usize = 64 * 1024;

/// Headers of a request; above it the agent is answered 431. In HTTP/1.1 this is hyper's own bound, which costs nothing, and the
/// connection closes.
pub const HEADERS: usize = 100;

/// What one HTTP/1.1 connection buffers in each direction, in bytes; above it reading waits for writing.
pub const HTTP1_BUFFER: usize = 128 * 1024;

/// An agent's HTTP/1.1 connection may be idle, or take for a request's head, this long; then it is closed, after a 408 if a head
/// was begun. BigQuery's front ends close theirs sooner, and a connection of the pod costs a few KiB.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(600);

/// An agent's first request to the CONNECT listener may take this long; then the connection is closed.
pub const CONNECT_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The head of an HTTP/2 request, decoded, in bytes; above it the stream is answered 431.
pub const HTTP2_HEAD: u32 = 64 * 1024;

/// What h2 itself takes of an agent's head, decoded, in bytes, so that the answer above says why. From here on the stream is
/// reset after a 431 without a body, and from four times as much on the connection ends; both are counted.
pub const HTTP2_HEAD_READ: u32 = 4 * HTTP2_HEAD;

/// What the other side may send on one HTTP/2 stream before we have read it, in bytes: what gRPC clients use themselves.
pub const HTTP2_STREAM_WINDOW: u32 = 4 << 20;

/// The same for all streams of an agent's connection together.
pub const HTTP2_CONNECTION_WINDOW: u32 = 16 << 20;

/// Calls that share one HTTP/2 connection to BigQuery; the next one opens another.
pub const UPSTREAM_STREAMS: usize = 16;

/// What BigQuery may send on one of our connections before it was read, in bytes: enough for every stream's own window, so
/// that agents who don't read never hold up the calls of others.
pub const UPSTREAM_CONNECTION_WINDOW: u32 = HTTP2_STREAM_WINDOW * 16;

/// A connection to BigQuery on which nothing passes is asked for a sign of life (TCP keep-alive) after this time,
pub const UPSTREAM_KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// again after each of these,
pub const UPSTREAM_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// and is given up after so many without an answer: a machine that is gone ends a long poll within a minute
/// (`upstream_broken`). A machine that lives may say nothing for as long as it likes.
pub const UPSTREAM_KEEPALIVE_PROBES: u32 = 3;

/// What was sent and is not acknowledged for this long gives a connection up, too.
pub const UPSTREAM_UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// With streams open on it, an HTTP/2 connection to BigQuery on which nothing came for this long gets a PING. Also a front end
/// that hangs is found so, and one that sits behind a load balancer.
pub const UPSTREAM_PING_INTERVAL: Duration = Duration::from_secs(30);

/// The PING must be answered within this time; then every call of the connection ends (`upstream_broken`, `answer_broken`).
pub const UPSTREAM_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest HTTP/2 frame of an agent that is taken, in bytes; a larger one is a protocol error. It is the least that HTTP/2 allows:
/// h2 reckons by it how many frames a head of [`HTTP2_HEAD_READ`] may have.
pub const HTTP2_AGENT_FRAME: u32 = 16 * 1024;

/// Largest HTTP/2 frame of BigQuery's that is taken, in bytes; a larger one is a protocol error.
pub const HTTP2_FRAME: u32 = 1 << 20;

/// Streams that an agent may have open on one HTTP/2 connection; more wait on the agent's side.
pub const HTTP2_STREAMS: u32 = 256;

/// The body that decides what a call asks may take this long to arrive; then the call is refused (`body_timeout`).
pub const DECIDING_BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// Memory for the bodies that decide, of all calls together, with their copies, in KiB (128 MiB). A call waits for its
/// share.
pub const BODY_MEMORY_KIB: usize = 128 * 1024;

/// A call that waited this long for memory for its body is refused (`overloaded`).
pub const BODY_MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is still read of the body of a refused HTTP/1.1 request, in bytes, before the connection is closed.
pub const LINGER_BYTES: usize = 16 << 20;

/// How long that may take.
pub const LINGER_TIME: Duration = Duration::from_secs(3);

/// A body that decides and is larger than this, in bytes, is read by a thread for long work, so that other calls go on.
pub const LONG_BODY: usize = 256 * 1024;

/// The TLS handshake with an agent may take this long after its ClientHello; then the connection is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
