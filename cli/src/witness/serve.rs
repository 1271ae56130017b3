//! The witness's one place: `POST /add-checkpoint`. Plain HTTP: what goes in and out is signed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ledger::witness::{Declined, MAX_REQUEST, SIZE_TYPE};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::state::{NoCosignature, State};

/// A request must be there whole within this time; else its connection is closed.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// Connections at one time; the next one waits.
const CONNECTIONS: usize = 64;

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, state: State) {
    let (state, room) = (Arc::new(Mutex::new(state)), Arc::new(Semaphore::new(CONNECTIONS)));
    loop {
        let Ok(turn) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await; // out of file descriptors, most likely
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(request, &state).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_LIMIT)
                .serve_connection(TokioIo::new(stream), service);
            // One that breaks off is the log's to ask again.
            let _ended = connection.await.is_ok();
            drop(turn);
        });
    }
}

async fn answer(request: Request<Incoming>, state: &Arc<Mutex<State>>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/add-checkpoint" {
        return text(StatusCode::NOT_FOUND, "POST /add-checkpoint\n".into());
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST only\n".into());
    }
    let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
    let Ok(Ok(body)) = tokio::time::timeout(REQUEST_LIMIT, body).await else {
        return text(StatusCode::BAD_REQUEST, "the request is too long, or broke off\n".into());
    };
    let (state, body) = (Arc::clone(state), body.to_bytes());
    let cosigning = move || state.lock().unwrap_or_else(PoisonError::into_inner).cosign(&body);
    match tokio::task::spawn_blocking(cosigning).await {
        Ok(Ok(line)) => text(StatusCode::OK, line),
        Ok(Err(NoCosignature::Declined(declined))) => decline(&declined),
        Ok(Err(NoCosignature::Storage(_))) | Err(_) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "the witness can't write its state\n".into())
        }
    }
}

fn decline(declined: &Declined) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(declined.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let Declined::Conflict(size) = declined else { return text(status, format!("{declined}\n")) };
    let mut answer = text(status, format!("{size}\n"));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(SIZE_TYPE));
    answer
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
