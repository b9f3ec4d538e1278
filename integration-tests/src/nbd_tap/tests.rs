//! The witness is what it says, before anything is measured with it.

use super::*;
use migratekit::read::{ReadOptions, Reader};
use shared::leaf::LEAF;

const SIZE: u64 = 8 << 20;

struct Stand {
    tap: Tap,
    server: FolderServer,
    content: Vec<u8>,
    _dir: tempfile::TempDir,
}

fn stand(jitter: Duration) -> Stand {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let mut content = vec![0; usize::try_from(SIZE).unwrap()];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    std::fs::write(files.join("root"), &content).unwrap();
    let server = FolderServer::start(&files, &dir.path().join("server"), Extents::Told).unwrap();
    let tap = Tap::start(&dir.path().join("tap"), &dir.path().join("server"), TapOptions { seed: 7, jitter });
    Stand { tap: tap.unwrap(), server, content, _dir: dir }
}

impl Stand {
    /// Reads `range` as an agent would.
    async fn read(&self, range: ByteRange) -> Vec<u8> {
        let uri = format!("nbd+unix:///root?socket={}", self.tap.socket().display()).parse().unwrap();
        let options = ReadOptions { request_size: LEAF, ..ReadOptions::default() };
        let (reader, mut pieces) = Reader::open(&uri, &options).await.unwrap();
        let mut found = vec![0; usize::try_from(range.len()).unwrap()];
        let submit = async {
            reader.submit(range).await.unwrap();
            reader.close();
            drop(reader);
        };
        let receive = async {
            while let Some(piece) = pieces.recv().await {
                let migratekit::piece::Piece::Data { offset, data, .. } = piece.unwrap() else {
                    panic!("no zeros here")
                };
                let at = usize::try_from(offset - range.start).unwrap();
                found[at..at + data.len()].copy_from_slice(&data);
            }
        };
        tokio::join!(submit, receive);
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_through_and_reads_are_counted_by_attempt() {
    let mut stand = stand(Duration::from_millis(3));
    assert!(stand.read(ByteRange::new(0, SIZE)).await == stand.content);
    assert_eq!(stand.tap.asked()["root"], SIZE);
    assert_eq!(stand.tap.redone()["root"], 0, "there is only one attempt");
    assert!(stand.tap.disordered() > 0, "answers overtake each other");
    stand.server.restart(Extents::Lost).unwrap();
    stand.tap.next_attempt();
    assert_eq!(stand.tap.redone()["root"], 0, "the new attempt has read nothing");
    let half = stand.read(ByteRange::new(SIZE / 2, SIZE / 2 + 4 * LEAF)).await;
    assert!(half == stand.content[half_start()..half_start() + half.len()]);
    assert_eq!(stand.tap.redone()["root"], 4 * LEAF);
    stand.tap.forget();
    assert!(stand.tap.asked().is_empty());
}

fn half_start() -> usize {
    usize::try_from(SIZE / 2).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_lets_so_much_through_and_then_nothing() {
    let stand = stand(Duration::ZERO);
    stand.tap.hold_after(SIZE / 2);
    let (first, rest) = (ByteRange::new(0, SIZE / 2), ByteRange::new(SIZE / 2, SIZE));
    stand.read(first).await;
    assert!(stand.tap.is_held());
    let mut late = std::pin::pin!(stand.read(rest));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut late).await.is_err(), "held");
    stand.tap.release();
    assert!(late.await == stand.content[half_start()..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept() {
    let stand = stand(Duration::ZERO);
    stand.tap.set_rate(Some(SIZE));
    let began = Instant::now();
    stand.read(ByteRange::new(0, SIZE / 2)).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_aborts_is_there_again() {
    let stand = stand(Duration::ZERO);
    assert!(stand.read(ByteRange::new(0, LEAF)).await == stand.content[..65536]);
    stand.server.abort().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while std::os::unix::net::UnixStream::connect(stand._dir.path().join("server")).is_err() {
        assert!(std::time::Instant::now() < deadline, "it stays away");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(stand.read(ByteRange::new(0, LEAF)).await == stand.content[..65536]);
}
