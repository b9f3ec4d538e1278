//! The TCP below: closed, reset, or silent at a word.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// FIN: what was sent before arrives.
    Close,
    /// RST: what the other side has not read yet is lost.
    Reset,
}

/// An agent's connection and the one to the OMA that belongs to it.
#[derive(Debug, Default)]
pub(super) struct Link {
    cut: CancellationToken,
    reset: AtomicBool,
    stalled: AtomicBool,
}

impl Link {
    pub(super) fn cut(&self, how: How) {
        self.reset.store(how == How::Reset, Relaxed);
        self.cut.cancel();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    pub(super) async fn was_cut(&self) {
        self.cut.cancelled().await;
    }

    /// From now on, until it is cut.
    pub(super) fn stall(&self) {
        self.stalled.store(true, Relaxed);
    }
}

/// One end's stream.
pub(super) struct Wire {
    tcp: TcpStream,
    link: Arc<Link>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream, link: &Arc<Link>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let cut = Box::pin(link.cut.clone().cancelled_owned());
        Ok(Self { tcp, link: Arc::clone(link), cut })
    }

    /// Ready when nothing may pass: with an error, or never.
    fn stopped(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Some(Poll::Ready(io::Error::from(io::ErrorKind::ConnectionReset)));
        }
        self.link.stalled.load(Relaxed).then_some(Poll::Pending)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.link.reset.load(Relaxed) {
            // Fails only on what is no socket.
            let _ = rustix::net::sockopt::set_socket_linger(&self.tcp, Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stopped(cx) {
            Some(stopped) => stopped.map(Err),
            None => Pin::new(&mut self.tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.stopped(cx) {
            Some(stopped) => stopped.map(Err),
            None => Pin::new(&mut self.tcp).poll_write(cx, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stopped(cx) {
            Some(stopped) => stopped.map(Err),
            None => Pin::new(&mut self.tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stopped(cx) {
            Some(stopped) => stopped.map(Err),
            None => Pin::new(&mut self.tcp).poll_shutdown(cx),
        }
    }
}
