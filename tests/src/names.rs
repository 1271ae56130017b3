//! The cluster's name server, in small: names and all below them have an address each, of IPv4; nothing else is there.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::trouble::{Doing as _, Result};

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;

/// Answers until it is dropped.
#[derive(Debug)]
pub struct NameServer {
    serving: JoinHandle<()>,
}

impl NameServer {
    /// Serves on port 53 of this address. A name counts for itself and for all below it; of several that do, the first.
    ///
    /// # Errors
    /// The port is taken, or something is no name.
    pub async fn start(address: IpAddr, names: &[(&str, IpAddr)]) -> Result<Self> {
        let name = |(name, address): &(&str, IpAddr)| {
            Name::from_ascii(format!("{name}.")).map(|name| (name, *address)).doing("reading a name")
        };
        let names: Vec<_> = names.iter().map(name).collect::<Result<_>>()?;
        let socket =
            UdpSocket::bind(SocketAddr::new(address, 53)).await.doing("opening the name server's port")?;
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&buffer[..length], &names) {
                    // Who has gone needs no answer.
                    let _sent = socket.send_to(&answer, from).await.is_ok();
                }
            }
        });
        Ok(Self { serving })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(question: &[u8], names: &[(Name, IpAddr)]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    match names.iter().find(|(name, _)| name.zone_of(query.name())) {
        Some((_, IpAddr::V4(address))) if query.query_type() == RecordType::A => {
            answer.add_answer(Record::from_rdata(query.name().clone(), TTL, RData::A(A(*address))));
        }
        Some(_) => {} // there, and without such an address
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.add_query(query);
    answer.to_vec().ok()
}
