//! A watch as lines of JSON and as messages of a WebSocket: the same events in both.

use super::view::Event;
use crate::service::watch::{Seen, States};
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::{Stream, unfold};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
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
    last: Option<Arc<Seen>>,
    ready: VecDeque<Event>,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.ended = event.is_end();
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match tokio::time::timeout(PERIOD, self.states.next()).await {
                Ok(None) => return None,
                Ok(Some(state)) => self.last = Some(state),
                Err(_) => {}
            }
            if let Some(state) = &self.last {
                if state.sequence != self.after {
                    self.ready.extend(Event::progress(state.sequence, &state.view));
                }
                self.ready.extend(Event::end(state.sequence, &state.view));
                self.after = 0;
            }
        }
    }
}

/// The last run as it stands, each of its changes, and the end when nothing runs any more.
pub(super) fn events(states: States, after: u64) -> impl Stream<Item = Event> + Send + 'static {
    let following = Following { states, after, last: None, ready: VecDeque::new(), ended: false };
    unfold(following, async |mut following| following.next().await.map(|event| (event, following)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Plant;
    use shared::migration::Action;

    /// Red when a proxy between would take the connection for dead.
    #[tokio::test]
    async fn a_state_that_does_not_change_is_said_again_within_a_minute() {
        let plant = Plant::begun().await;
        plant.act(Action::Sync).await;
        let view = plant.app.migration_view(&plant.migration().await.id).await.expect("a view");
        let view = plant.app.with_history(view, 1).await.expect("its history");
        let (states, _open) = States::fixed(view);
        let mut events = std::pin::pin!(events(states, 0));
        assert!(events.next().await.is_some());
        tokio::time::pause();
        for _ in 0..3 {
            let again = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
            assert!(again.expect("within a minute").is_some());
        }
    }
}
