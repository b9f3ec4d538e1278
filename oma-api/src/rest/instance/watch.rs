//! A watch as lines of JSON and as messages of a WebSocket: the same events in both.

use super::view::Event;
use crate::service::watch::States;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::{Stream, unfold};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// So long without a change, the last event is said again.
const PERIOD: Duration = Duration::from_secs(30);

/// For a client that takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);

struct Following {
    states: States,
    /// Seen by the client already.
    after: u64,
    ready: VecDeque<Event>,
    begun: bool,
    ended: bool,
}

/// The last run as it stands, each of its changes, and the end when nothing runs any more.
pub(super) fn events(states: States, after: u64) -> impl Stream<Item = Event> + Send + 'static {
    unfold(
        Following { states, after, ready: VecDeque::new(), begun: false, ended: false },
        async |mut following| {
            loop {
                if let Some(event) = following.ready.pop_front() {
                    following.ended = event.is_end();
                    return Some((event, following));
                }
                if following.ended {
                    return None;
                }
                // The first state may be there already; then nothing changes.
                let first = !following.begun && following.states.borrow().is_some();
                if !first && let Ok(Err(_)) = tokio::time::timeout(PERIOD, following.states.changed()).await {
                    return None;
                }
                following.begun = true;
                let Some(state) = following.states.borrow_and_update().clone() else { continue };
                let known = state.sequence == following.after;
                following.after = 0;
                if !known {
                    following.ready.extend(Event::progress(state.sequence, &state.view));
                }
                following.ready.extend(Event::end(state.sequence, &state.view));
            }
        },
    )
}

/// `application/x-json-stream`.
pub(super) fn lines(
    events: impl Stream<Item = Event> + Send + 'static,
    shutdown: CancellationToken,
) -> Response {
    let lines = events.map(|event| Ok::<_, Infallible>(event.json() + "\n"));
    let body = Body::from_stream(lines.take_until(shutdown.cancelled_owned()));
    ([(CONTENT_TYPE, "application/x-json-stream")], body).into_response()
}

/// Until the end, the client's or ours.
pub(super) async fn messages(
    mut socket: WebSocket,
    events: impl Stream<Item = Event> + Send + 'static,
    shutdown: CancellationToken,
) {
    let mut events = std::pin::pin!(events);
    let code = loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { break close_code::NORMAL };
                let sent = tokio::time::timeout(PATIENCE, socket.send(Message::text(event.json()))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            // What a client says is of no interest; that it goes is.
            said = socket.recv() => match said {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            () = shutdown.cancelled() => break close_code::AWAY,
        }
    };
    let close = Message::Close(Some(CloseFrame { code, reason: "".into() }));
    let _ = tokio::time::timeout(PATIENCE, socket.send(close)).await;
}
