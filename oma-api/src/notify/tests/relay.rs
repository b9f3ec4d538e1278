//! An SMTP relay that keeps what it takes, and answers as it is told to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Default)]
struct Kept {
    /// All that was said in DATA.
    mails: Vec<String>,
    /// Recipients, authentications: as they were said.
    said: Vec<String>,
    /// To the next recipients, before all are taken.
    answers: VecDeque<&'static str>,
}

/// See the module; ends with the runtime.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Relay {
    pub(super) async fn start(tls: Option<Arc<rustls::ServerConfig>>, answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let kept = Kept { answers: answers.iter().copied().collect(), ..Kept::default() };
        let kept = Arc::new(Mutex::new(kept));
        let all = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, tls) = (Arc::clone(&all), tls.clone());
                tokio::spawn(async move {
                    stream.write_all(b"220 relay ESMTP\r\n").await?;
                    if talk(&mut stream, &kept, tls.is_some()).await?
                        && let Some(tls) = tls
                    {
                        let mut stream = TlsAcceptor::from(tls).accept(stream).await?;
                        talk(&mut stream, &kept, false).await?;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Self { address, kept }
    }

    pub(super) fn mails(&self) -> Vec<String> {
        self.kept.lock().expect("whole").mails.clone()
    }

    pub(super) fn said(&self) -> Vec<String> {
        self.kept.lock().expect("whole").said.clone()
    }
}

/// `true`: TLS is to begin.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    kept: &Mutex<Kept>,
    offers_tls: bool,
) -> std::io::Result<bool> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let verb = line.split([' ', '\r']).next().unwrap_or_default().to_uppercase();
        let answer = match verb.as_str() {
            "EHLO" if offers_tls => "250-relay\r\n250 STARTTLS",
            "EHLO" => "250-relay\r\n250 AUTH PLAIN",
            "STARTTLS" => {
                stream.get_mut().write_all(b"220 go\r\n").await?;
                return Ok(true);
            }
            "AUTH" => {
                kept.lock().expect("whole").said.push(line.trim().to_owned());
                "235 you are"
            }
            "RCPT" => {
                let mut kept = kept.lock().expect("whole");
                kept.said.push(line.trim().to_owned());
                kept.answers.pop_front().unwrap_or("250 taken")
            }
            "DATA" => {
                stream.get_mut().write_all(b"354 go\r\n").await?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut mail).await?;
                }
                kept.lock().expect("whole").mails.push(mail);
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 well",
        };
        stream.get_mut().write_all(format!("{answer}\r\n").as_bytes()).await?;
        if verb == "QUIT" {
            return Ok(false);
        }
    }
}
