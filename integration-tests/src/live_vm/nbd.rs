//! A small NBD client, the guest's side of the stand-in: it writes, discards and reads the live disk.
//!
//! It is written by hand and shares nothing with the engine, so that a hash made through it is a second opinion. One
//! request at a time, simple replies, Unix sockets only; no TLS, no block status.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Read = 0,
    Write = 1,
    Flush = 3,
    Trim = 4,
    WriteZeroes = 6,
}

/// One connection to one export.
#[derive(Debug)]
pub struct Nbd {
    stream: UnixStream,
    size: u64,
    cookie: u64,
}

impl Nbd {
    /// Connects to `export` behind the Unix socket and shakes hands.
    pub fn connect(socket: &Path, export: &str) -> anyhow::Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let mut this = Self { stream, size: 0, cookie: 0 };
        this.shake_hands(export).with_context(|| format!("NBD handshake for export {export}"))?;
        Ok(this)
    }

    /// Bytes of the export when the connection was made.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset`.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        self.request(Command::Read, offset, u32::try_from(buffer.len())?, &[])?;
        Ok(self.stream.read_exact(buffer)?)
    }

    /// Writes `data` at `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> anyhow::Result<()> {
        self.request(Command::Write, offset, u32::try_from(data.len())?, data)
    }

    /// Makes the range read as zeros.
    pub fn zero(&mut self, offset: u64, length: u32) -> anyhow::Result<()> {
        self.request(Command::WriteZeroes, offset, length, &[])
    }

    /// Gives the range back to the storage.
    pub fn discard(&mut self, offset: u64, length: u32) -> anyhow::Result<()> {
        self.request(Command::Trim, offset, length, &[])
    }

    /// Makes all completed writes durable.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.request(Command::Flush, 0, 0, &[])
    }

    fn shake_hands(&mut self, export: &str) -> anyhow::Result<()> {
        ensure!(&self.bytes::<8>()? == b"NBDMAGIC", "not an NBD server");
        ensure!(self.u64()? == OPTION_MAGIC, "not a newstyle NBD server");
        let _flags = self.bytes::<2>()?;
        // Fixed newstyle, no zeroes.
        let mut hello = 3u32.to_be_bytes().to_vec();
        let name = u32::try_from(export.len())?;
        hello.extend(OPTION_MAGIC.to_be_bytes());
        hello.extend(OPTION_GO.to_be_bytes());
        hello.extend((4 + name + 2).to_be_bytes());
        hello.extend(name.to_be_bytes());
        hello.extend(export.as_bytes());
        hello.extend(0u16.to_be_bytes());
        self.stream.write_all(&hello)?;
        loop {
            ensure!(self.u64()? == OPTION_REPLY_MAGIC, "bad magic in an option reply");
            let _option = self.u32()?;
            let kind = self.u32()?;
            let length = self.u32()?;
            ensure!(length <= 64 * 1024, "an option reply of {length} bytes");
            let mut data = vec![0; usize::try_from(length)?];
            self.stream.read_exact(&mut data)?;
            match kind {
                REPLY_ACK => return Ok(()),
                // NBD_INFO_EXPORT: type 0, size, transmission flags.
                REPLY_INFO if data.len() == 12 && data[..2] == [0, 0] => {
                    self.size = u64::from_be_bytes(data[2..10].try_into().context("eight bytes")?);
                }
                REPLY_INFO => {}
                refused => bail!("refused with reply {refused:#x}: {}", String::from_utf8_lossy(&data)),
            }
        }
    }

    fn request(&mut self, command: Command, offset: u64, length: u32, data: &[u8]) -> anyhow::Result<()> {
        self.cookie += 1;
        let mut request = Vec::with_capacity(28 + data.len());
        request.extend(REQUEST_MAGIC.to_be_bytes());
        request.extend(0u16.to_be_bytes());
        request.extend((command as u16).to_be_bytes());
        request.extend(self.cookie.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        self.stream.write_all(&request)?;
        ensure!(self.u32()? == SIMPLE_REPLY_MAGIC, "bad magic in a reply");
        let error = self.u32()?;
        ensure!(self.u64()? == self.cookie, "a reply to another request");
        ensure!(error == 0, "{command:?} of {length} bytes at {offset} failed with errno {error}");
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_be_bytes(self.bytes()?))
    }
}
