//! A server whose structured replies leave a part out and say that all is well.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

const SIZE: u64 = 1 << 20;

#[test]
fn a_reply_that_leaves_a_part_out_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("nbd.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        // Ends with an error when the client goes.
        let _ = serve(stream);
    });
    let mut handle = open(&NbdUri::unix(&socket).expect("a plain path"));
    let whole = read(&mut handle, 0, 8192).expect("an even offset is answered whole");
    assert_eq!(whole, vec![7; 8192]);
    match read(&mut handle, 4096, 8192) {
        Err(Error::Read { offset: 4096, length: 8192, .. }) => {}
        other => panic!("half an answer is no answer: {other:?}"),
    }
    assert!(read(&mut handle, 8192, 4096).is_ok(), "the connection is still good");
    drop(handle);
    server.join().expect("no panic");
}

/// Reads that begin at an odd block are answered by half.
fn serve(mut s: UnixStream) -> std::io::Result<()> {
    s.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
    take::<4>(&mut s)?;
    loop {
        let head = take::<16>(&mut s)?;
        let option = [head[8], head[9], head[10], head[11]];
        let length = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        std::io::copy(&mut (&s).take(u64::from(length)), &mut std::io::sink())?;
        let mut answer = |kind: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).expect("short");
            let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
            s.write_all(&[&magic[..], &option, &kind.to_be_bytes(), &length.to_be_bytes(), data].concat())
        };
        match u32::from_be_bytes(option) {
            // Structured replies.
            8 => answer(1, &[])?,
            // Go: size and flags, then the acknowledgement.
            7 => {
                answer(3, &[&[0, 0][..], &SIZE.to_be_bytes(), &[0, 1]].concat())?;
                answer(1, &[])?;
                break;
            }
            _ => answer((1 << 31) + 1, &[])?,
        }
    }
    loop {
        let request = take::<28>(&mut s)?;
        let (kind, cookie) = (request[7], &request[8..16]);
        let offset = u64::from_be_bytes(request[16..24].try_into().expect("eight bytes"));
        let length = u32::from_be_bytes(request[24..28].try_into().expect("four bytes"));
        if kind != 0 {
            return Ok(());
        }
        let given = if offset / 4096 % 2 == 1 { length / 2 } else { length };
        let head = [&0x668e_33ef_u32.to_be_bytes()[..], &[0, 1, 0, 1], cookie, &(given + 8).to_be_bytes()];
        let data = vec![7; usize::try_from(given).expect("small")];
        s.write_all(&[&head.concat()[..], &offset.to_be_bytes(), &data].concat())?;
    }
}

fn take<const N: usize>(s: &mut UnixStream) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    s.read_exact(&mut bytes).map(|()| bytes)
}
