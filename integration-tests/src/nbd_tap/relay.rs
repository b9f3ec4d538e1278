//! One connection: the handshake, then requests up and answers down.

use super::Shared;
use anyhow::{Context as _, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use shared::range::ByteRange;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_ERROR: u32 = 1 << 31;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
/// Nothing in a handshake or an answer is longer.
const LONGEST: u32 = 64 << 20;

/// Reads in flight, by cookie.
type Asked = Mutex<HashMap<u64, ByteRange>>;

/// A whole answer, and what it answers where that was a read.
struct Answer {
    bytes: Vec<u8>,
    read: Option<ByteRange>,
}

/// Until either side closes.
pub(super) fn run(
    shared: &Shared,
    number: u64,
    attempt: u64,
    client: &UnixStream,
    server: &UnixStream,
) -> anyhow::Result<()> {
    shared.lock().connections.extend([client.try_clone()?, server.try_clone()?]);
    let Some(export) = handshake(client, server)? else { return Ok(()) };
    let (asked, export) = (&Asked::default(), export.as_str());
    let (answers, waiting) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = requests(shared, attempt, export, asked, client, server);
            let _ = server.shutdown(Shutdown::Write);
        });
        scope.spawn(move || {
            let random =
                SmallRng::seed_from_u64(shared.options.seed.wrapping_mul(1_000_003).wrapping_add(number));
            let _ = hand_on(shared, random, export, &waiting, client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        let mut parts = HashMap::new();
        while let Ok(answer) = answer(asked, &mut parts, server) {
            if let Some(answer) = answer
                && answers.send(answer).is_err()
            {
                break;
            }
        }
        drop(answers);
    });
    Ok(())
}

/// Hands the handshake through; the export's name, or `None` when the client left.
fn handshake(mut client: &UnixStream, mut server: &UnixStream) -> anyhow::Result<Option<String>> {
    client.write_all(&bytes::<18>(server)?)?;
    server.write_all(&bytes::<4>(client)?)?;
    loop {
        let head = bytes::<16>(client)?;
        let option = u32_at(&head, 8);
        let data = take(client, u32_at(&head, 12))?;
        server.write_all(&head)?;
        server.write_all(&data)?;
        loop {
            let head = bytes::<20>(server)?;
            ensure!(u64_at(&head, 0) == OPTION_REPLY_MAGIC, "not an answer to an option");
            let kind = u32_at(&head, 12);
            let rest = take(server, u32_at(&head, 16))?;
            client.write_all(&head)?;
            client.write_all(&rest)?;
            if kind == REPLY_ACK && option == OPTION_GO {
                let length = usize::try_from(u32_at(&data, 0))?;
                let name = data.get(4..4 + length).context("an export's name beyond its option")?;
                return Ok(Some(String::from_utf8_lossy(name).into_owned()));
            }
            if kind == REPLY_ACK || kind & REPLY_ERROR != 0 {
                break;
            }
        }
        if option == OPTION_ABORT {
            return Ok(None);
        }
    }
}

fn requests(
    shared: &Shared,
    attempt: u64,
    export: &str,
    asked: &Asked,
    client: &UnixStream,
    mut server: &UnixStream,
) -> anyhow::Result<()> {
    loop {
        let head = bytes::<28>(client)?;
        ensure!(u32_at(&head, 0) == REQUEST_MAGIC, "not a request");
        let (cookie, offset, length) = (u64_at(&head, 8), u64_at(&head, 16), u32_at(&head, 24));
        let payload = match u16_at(&head, 6) {
            COMMAND_READ => {
                let range = ByteRange::at(offset, u64::from(length)).context("a read past 2^64")?;
                shared.asked(attempt, export, range);
                lock(asked).insert(cookie, range);
                Vec::new()
            }
            COMMAND_WRITE => take(client, length)?,
            _ => Vec::new(),
        };
        server.write_all(&head)?;
        server.write_all(&payload)?;
    }
}

/// The next message of the server; `None` while the answer that it belongs to is not whole.
fn answer(
    asked: &Asked,
    parts: &mut HashMap<u64, Vec<u8>>,
    server: &UnixStream,
) -> anyhow::Result<Option<Answer>> {
    let magic = bytes::<4>(server)?;
    match u32::from_be_bytes(magic) {
        SIMPLE_MAGIC => {
            let head = bytes::<12>(server)?;
            let read = lock(asked).remove(&u64_at(&head, 4));
            let mut whole = [&magic[..], &head].concat();
            if let Some(range) = read.filter(|_| u32_at(&head, 0) == 0) {
                whole.extend(take(server, u32::try_from(range.len())?)?);
            }
            Ok(Some(Answer { bytes: whole, read }))
        }
        // Of a read there may be several, and QEMU sends those of others between them.
        STRUCTURED_MAGIC => {
            let head = bytes::<16>(server)?;
            let (done, cookie) = (u16_at(&head, 0) & 1 != 0, u64_at(&head, 4));
            let part = parts.entry(cookie).or_default();
            part.extend([&magic[..], &head].concat());
            part.extend(take(server, u32_at(&head, 12))?);
            let whole = if done { parts.remove(&cookie) } else { None };
            Ok(whole.map(|bytes| Answer { bytes, read: lock(asked).remove(&cookie) }))
        }
        other => bail!("not an answer: {other:#x}"),
    }
}

/// Each answer after a wait of its own.
fn hand_on(
    shared: &Shared,
    mut random: SmallRng,
    export: &str,
    answers: &mpsc::Receiver<Answer>,
    mut client: &UnixStream,
) -> anyhow::Result<()> {
    let jitter = u64::try_from(shared.options.jitter.as_micros())?;
    let mut due: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut kept: HashMap<u64, Answer> = HashMap::new();
    for number in 0u64.. {
        let came = loop {
            let wait = due.peek().map_or(Duration::from_secs(3600), |Reverse((at, _))| {
                at.saturating_duration_since(Instant::now())
            });
            match answers.recv_timeout(wait) {
                Ok(answer) => break Some(answer),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if due.is_empty() => break None,
                // What is left goes out at once.
                Err(RecvTimeoutError::Disconnected) => {}
            }
            let Some(answer) = due.pop().and_then(|Reverse((_, number))| kept.remove(&number)) else {
                continue;
            };
            if let Some(range) = answer.read
                && !shared.may_answer(export, range)
            {
                return Ok(());
            }
            client.write_all(&answer.bytes)?;
        };
        let Some(answer) = came else { return Ok(()) };
        let wait = if answer.read.is_some() { random.random_range(0..=jitter) } else { 0 };
        due.push(Reverse((Instant::now() + Duration::from_micros(wait), number)));
        kept.insert(number, answer);
    }
    Ok(())
}

fn lock(asked: &Asked) -> std::sync::MutexGuard<'_, HashMap<u64, ByteRange>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes<const N: usize>(mut from: &UnixStream) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take(mut from: &UnixStream, length: u32) -> anyhow::Result<Vec<u8>> {
    ensure!(length <= LONGEST, "{length} bytes at once");
    let mut bytes = vec![0; usize::try_from(length)?];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..offset + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes(at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(at(bytes, offset))
}
